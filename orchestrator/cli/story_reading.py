"""The story of a job, read from the bucket: of a long one only what is asked for."""

from dataclasses import dataclass
from datetime import datetime

from orchestrator.cli.following import events_of
from orchestrator.cli.story import Chapter, chapters
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.record import JobRecord
from orchestrator.store.protocol import Store

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

    def includes(self, chapter: Chapter) -> bool:
        """Whether a decision was asked for."""
        late_enough = self.since is None or chapter.head.at >= self.since
        return late_enough and (not self.kinds or any(event.kind in self.kinds for event in chapter.events))


@dataclass(frozen=True)
class Story:
    """What was asked for, and how many events come before it that were not looked at."""

    chapters: list[Chapter]
    earlier: int


def read_story(store: Store, record: JobRecord, asked: Asked) -> Story:
    """Decisions, oldest first."""
    after = asked.first_event(record)
    told = chapters(events_of(store, record, after), {})
    if after:
        told = told[1:]  # the first may be the rest of a decision that began before
    earlier = told[0].events[0].number - 1 if after and told else 0
    return Story([chapter for chapter in told if asked.includes(chapter)], earlier)
