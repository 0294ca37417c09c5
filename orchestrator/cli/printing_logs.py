"""Logs on stdout, byte for byte; what separates them on stderr."""

import math
import sys

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.prose import say, styled, warn
from orchestrator.jobs.pace import pace_of
from orchestrator.reading.following import JobWatch, follow, interval_s
from orchestrator.reading.log_reading import LogStream, check_stream, generations_with_logs
from orchestrator.store.protocol import Store


class LogPrinter:
    """Prints one stream of a job: of one generation, or of the latest and those that follow it."""

    def __init__(self, store: Store, job: str, stream: str, generation: int | None, tail: int | None) -> None:
        self.store = store
        self.job = job
        self._stream = stream
        self._generation = generation
        self._tail = tail
        self._open: LogStream | None = None

    def print_all(self) -> None:
        """Print what there is. Raises UsageError, naming what else there is, when there is none of what was asked."""
        generations = generations_with_logs(self.store, self.job)
        wanted = self._generation if self._generation is not None else max(generations, default=0)
        check_stream(self.store, self.job, wanted, self._stream)
        self._enter(wanted)
        self._print_new()

    def print_new(self) -> None:
        """Print what was added, going on with the next generation where none was asked for."""
        if self._generation is not None:
            later = [] if self._open else [self._generation]
        else:
            generations = generations_with_logs(self.store, self.job)
            later = generations[-1:] if self._open is None else [g for g in generations if g > self._open.generation]
        self._print_new()
        for generation in later:
            self._enter(generation)
            self._print_new()

    def _enter(self, generation: int) -> None:
        if self._open is not None:
            say(styled(f"── generation {generation} ──", "dim", sys.stderr))
        self._open = LogStream(self.store, self.job, generation, self._stream)
        if self._tail is not None:
            self._write(self._open.tail(self._tail))
            self._tail = None  # it is about where to begin

    def _print_new(self) -> None:
        for chunk in self._open.new_chunks() if self._open is not None else ():
            self._write(chunk)

    @staticmethod
    def _write(data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def follow_logs(printer: LogPrinter, invocation: Invocation) -> None:
    """Print as it comes, until the job is over and its last words are printed.

    Where requests are billed, for what is new only as often as agents bring any: to find it takes two listings.
    """
    watch = JobWatch(printer.store, printer.job, invocation.now, invocation.monotonic)
    every_s = pace_of(billed=True).ship_logs_s if printer.store.billed else 0.0
    printed_at_s = -math.inf
    for look in follow(watch, sleep=invocation.sleep, every_s=interval_s(printer.store), trouble=warn):
        if look.over or invocation.monotonic() - printed_at_s >= every_s:
            printed_at_s = invocation.monotonic()
            printer.print_new()
