"""The console script: runs a command and turns whatever comes of it into an exit code and at most one message.

The codes are in `orchestrator.cli.exit_codes` and, for errors, with the errors themselves.
"""

import gc
import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TextIO

import typer
from typer.main import get_command

from orchestrator.cli.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PIPE_CLOSED
from orchestrator.cli.prose import complain, say
from orchestrator.errors import ElasticError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STDOUT_FD = 1
GARBAGE_AFTER = 100_000
"""So many new objects, in place of 700, before garbage is looked for: what a command imports is none."""


class UnwritableStdout(ElasticError, OSError):
    """The disk is full, say. Also an OSError, as it is wherever something else writes to stdout."""


class _Stdout(io.FileIO):
    """Tells by its exception that it was stdout which failed, and no other file."""

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UnwritableStdout(f"cannot write to stdout: {error.strerror}") from error


def main() -> None:
    """Run `elastic` with this process's arguments."""
    gc.set_threshold(GARBAGE_AFTER)
    signal.signal(signal.SIGTERM, _leave)
    _open_streams()
    code = run(sys.argv[1:])
    _let_go(sys.stdout)
    _let_go(sys.stderr)
    gc.freeze()  # to look for garbage once more at the very end would take a seventh of the time of a short command
    sys.exit(code)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    """End by way of every `finally`: a hidden cursor comes back, a half download goes."""
    raise SystemExit(128 + number)


def _open_streams() -> None:
    """What is closed from the start (`<&-`, `>&-`) is empty, or leads nowhere; stdout tells when it fails."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - for as long as it runs
    if isinstance(sys.__stdout__, io.TextIOWrapper) and sys.stdout is sys.__stdout__:
        sys.stdout = _telling(sys.__stdout__)


def _telling(stdout: io.TextIOWrapper) -> TextIO:
    """The same stdout by way of `_Stdout`, with no more between it and its reader than before (PYTHONUNBUFFERED)."""
    return io.TextIOWrapper(
        io.BufferedWriter(_Stdout(stdout.fileno(), "w", closefd=False)),
        encoding=stdout.encoding,
        errors=stdout.errors,
        line_buffering=stdout.line_buffering or stdout.write_through,
    )


def _let_go(stream: TextIO) -> None:
    """Write what is left. What cannot be goes nowhere: the interpreter's own last flush would change the exit code."""
    try:
        stream.flush()
    except OSError:
        _lead_nowhere(stream.fileno())


def _lead_nowhere(descriptor: int) -> None:
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), descriptor)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    try:
        from orchestrator.cli.app import app_for

        code = get_command(app_for(arguments)).main(list(arguments), prog_name="elastic", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except ElasticError as error:
        _explain(error)
        return error.exit_code
    except typer.Abort:
        say("Nothing was done.")
        return EXIT_FAILED
    except KeyboardInterrupt:  # before or after the command itself, which Typer watches over
        return EXIT_INTERRUPTED
    except typer.TyperException as error:
        return _complain_of_usage(error)
    except (BrokenPipeError, SystemExit) as error:
        return _closed(error)
    except Exception:  # noqa: BLE001 - the last resort: a fault of ours must not look like one of the user's
        return _confess()


def _explain(error: ElasticError) -> None:
    """One message. Mistakes in a file begin with its name, line and column, so that editors can jump to them."""
    from orchestrator.spec.problems import SpecError

    if isinstance(error, SpecError):
        say(str(error))
    else:
        complain(str(error))


def _complain_of_usage(error: typer.TyperException) -> int:
    """One line for a command that cannot be parsed, naming the help that would tell."""
    context = getattr(error, "ctx", None)
    help_command = f"{context.command_path} --help" if context else "elastic --help"
    message = error.format_message().replace("Value error, ", "")  # pydantic's word, of no use to a person
    stop = "" if message.endswith((".", "?", "!")) else "."
    complain(f"{message}{stop} See: {help_command}")
    return error.exit_code


def _closed(error: BaseException) -> int:
    """The reader of stdout went away. Typer and Rich turn that into SystemExit(1); nothing else here raises it so."""
    if isinstance(error, SystemExit) and error.code != 1:
        return error.code if isinstance(error.code, int) else EXIT_FAILED
    _lead_nowhere(STDOUT_FD)  # the interpreter's own last flush must not complain
    return EXIT_PIPE_CLOSED


def _confess() -> int:
    """Say that elastic is at fault, and keep the traceback where it can be sent from."""
    if os.environ.get("ELASTIC_DEBUG") == "1":
        traceback.print_exc()
        return EXIT_FAILED
    summary = traceback.format_exc(limit=0).strip().splitlines()[-1]
    try:
        where = f"the details are in {_write_traceback()}"
    except OSError as error:
        where = f"the details could not be written ({error}); run it again with ELASTIC_DEBUG=1"
    complain(f"this is a fault of elastic, not yours: {summary}; {where}")
    return EXIT_FAILED


def _write_traceback() -> Path:
    import platformdirs

    directory = Path(platformdirs.user_log_dir("elastic"))
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"fault-{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{os.getpid()}.log"
    path.write_text(f"elastic {' '.join(sys.argv[1:])}\n\n{traceback.format_exc()}", encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
