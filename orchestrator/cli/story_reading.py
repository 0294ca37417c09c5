"""The story of a job, read from the bucket: of a long one only what is asked for."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from orchestrator.cli.prose import warn
from orchestrator.cli.story import Chapter, Group, by_decision, chapter
from orchestrator.controller.decisions import load_decision
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.record import JobRecord
from orchestrator.reading.following import events_of
from orchestrator.store.protocol import Store, StoreError

_AT_ONCE = 16
"""Requests to a remote store are mostly waiting."""
LATEST_EVENTS = 120
"""How far back the story goes when nobody asks for more."""


@dataclass(frozen=True)
class Asked:
    """Which part of the story."""

    since: datetime | None = None
    kinds: frozenset[EventKind] = frozenset()
    everything: bool = False

    def first_event(self, record: JobRecord) -> int:
        """The number before the first event that can belong to it."""
        restricted = self.since is None and not self.kinds and not self.everything
        return max(0, record.last_event - LATEST_EVENTS) if restricted else 0

    def includes(self, events: Group) -> bool:
        """Whether a decision was asked for."""
        late_enough = self.since is None or events[0].at >= self.since
        return late_enough and (not self.kinds or any(event.kind in self.kinds for event in events))


@dataclass(frozen=True)
class Story:
    """What was asked for, and how many events come before it that were not looked at."""

    chapters: list[Chapter]
    earlier: int


def read_story(store: Store, record: JobRecord, asked: Asked) -> Story:
    """Decisions, oldest first."""
    after = asked.first_event(record)
    told = by_decision(events_of(store, record, after))
    if after:
        told = told[1:]  # the first may be the rest of a decision that began before
    earlier = told[0][0].number - 1 if after and told else 0
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        chapters = list(pool.map(partial(_read_chapter, store, record.name), filter(asked.includes, told)))
    return Story(chapters, earlier)


def _read_chapter(store: Store, job: str, events: Group) -> Chapter:
    number = events[0].decision
    try:
        kept = None if number is None else load_decision(store, job, number, events[0].epoch)
    except StoreError as error:
        warn(f"{error} So that decision is told by its events alone.")
        kept = None
    return chapter(events, kept)
