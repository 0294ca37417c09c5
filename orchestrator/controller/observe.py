"""Seeing: reads what may have changed of a job, and puts what is known into one Observation.

A job that trains costs a conditional read of a heartbeat for each instance. The head is read when a heartbeat tells
that it may have moved, when it has to be sealed, and now and then all the same. How long a heartbeat has been silent is
measured by this process's own monotonic clock, from when its last change was seen.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from orchestrator.controller.observation import InstanceView, LaunchFailure, Observation
from orchestrator.controller.spread import Each, one_by_one
from orchestrator.controller.watch import JobWatch
from orchestrator.errors import ElasticError
from orchestrator.fleets.protocol import Fleet, InstanceState, LaunchError, Offer, Sighting
from orchestrator.jobs.bucket import load_spec
from orchestrator.jobs.instances import Heartbeat
from orchestrator.jobs.record import JobRecord
from orchestrator.jobs.requests import Request
from orchestrator.spec.models import Resources
from orchestrator.store.document import Stored
from orchestrator.store.protocol import Store

HEAD_EVERY_LOOKS = 30
"""The head is read at least so often, whatever the heartbeats say."""
OFFERS_KEPT_S = 600.0
TELL_SILENCE_AFTER_S = 60.0
"""A fleet that does not answer for so long is told in the record: a person may have to do something."""
ASK_AGAIN_S = 30.0
"""So long after a fleet did not say what it offers."""


@dataclass
class Observer:
    """Reads jobs for one leader."""

    store: Store
    fleets: Mapping[str, Fleet]
    monotonic: Callable[[], float]
    _offers: dict[tuple[str | None, ...], "_Offered"] = field(default_factory=dict)
    _silent_since_s: dict[str, float] = field(default_factory=dict)
    """Per fleet that does not answer, since when."""

    def load(self, watch: JobWatch) -> bool:
        """Read what is not known yet; False if the submit of the job was not completed."""
        stored = watch.record.known(self.store)
        if stored is None:
            return False
        if watch.spec is None:
            watch.spec = load_spec(self.store, watch.job)
        return True

    def ask_fleets(
        self, watches: Iterable[JobWatch], complain: Callable[[str, str], None], each: Each = one_by_one
    ) -> set[str]:
        """Ask each fleet once for all instances of these jobs; the jobs of one that does not answer come back."""
        asked: dict[str, dict[str, JobWatch]] = defaultdict(dict)
        for watch in watches:
            if watch.record.stored is not None and watch.spec is not None:
                watch.fleet_trouble = ""  # of a job without instances a fleet is not asked: that one need not answer
                asked[watch.spec.resources.fleet] |= dict.fromkeys(watch.instances, watch)
        answers: dict[str, Mapping[str, Sighting] | ElasticError] = {}
        asked_at_s = self.monotonic()

        def ask(name: str) -> None:
            try:
                answers[name] = self.fleets[name].describe(asked[name])
            except ElasticError as error:
                answers[name] = error

        each(ask, [name for name, instances in asked.items() if instances])
        unseen: set[str] = set()
        for name, instances in asked.items():
            answer = answers.get(name)
            if isinstance(answer, Mapping):
                self._silent_since_s.pop(name, None)
                told_at_s = self.monotonic()
                for instance, watch in instances.items():
                    watch.fleet_asked_at_s = asked_at_s
                    watch.saw(instance, answer.get(instance), told_at_s)
                continue
            unanswered = {watch.job for watch in instances.values()}
            trouble = "" if answer is None else f"the {name} fleet does not answer: {answer}"
            if trouble:
                complain(min(unanswered), trouble)
            since_s = self._silent_since_s.setdefault(name, asked_at_s) if trouble else asked_at_s
            if asked_at_s - since_s >= TELL_SILENCE_AFTER_S:
                for watch in instances.values():
                    watch.fleet_trouble = trouble
            unseen |= unanswered
        return unseen

    def observe(
        self, watch: JobWatch, epoch: int, requests: tuple[Request, ...]
    ) -> tuple[Observation, Stored[JobRecord]]:
        """One job as it is known now. It was loaded, and its fleet asked."""
        stored, spec = watch.record.stored, watch.spec
        assert stored is not None and spec is not None
        record = stored.value
        now_s = watch.observed_at_s = self.monotonic()
        views = {i: self._view(i, watch, now_s) for i in watch.instances}
        offered = {rung.instance: self._offered(spec.resources, rung.instance) for rung in spec.resources.ladder}
        observation = Observation(
            epoch=epoch,
            spec=spec,
            record=record,
            head=head.value if (head := watch.head.stored) else None,
            requests=requests,
            instances=views,
            offers={kind: each.offers for kind, each in offered.items()},
            no_offers={kind: each.failure for kind, each in offered.items() if each.failure is not None},
            since_written_s=watch.since_written_s(now_s),
            fleet_trouble=watch.fleet_trouble,
        )
        return observation, stored

    def read_news(self, watch: JobWatch, epoch: int) -> bool:
        """Read the heartbeats of a job, then, if need be, its head: so it is at least as new as what they tell.

        Returns whether anything has changed.
        """
        assert watch.record.stored is not None
        record, now_s = watch.record.stored.value, self.monotonic()
        instances = watch.instances
        watch.keep_only(instances)
        news = [i for i in instances if watch.heartbeat(i, now_s).read(self.store, now_s)]
        for instance in news:
            if watch.heartbeats[instance].beat is not None:
                watch.lives(instance, now_s)
        for instance in instances:
            watch.assignment(instance).known(self.store)
        told = tuple(_told_of_head(beat) for i in instances if (beat := watch.heartbeats[i].beat))
        if self._head_is_due(watch, record, epoch, told):
            before = watch.head.stored
            watch.head_told, watch.head_age = told, 0
            return watch.head.read(self.store) is not before or bool(news)
        watch.head_age += 1
        return bool(news)

    def _head_is_due(self, watch: JobWatch, record: JobRecord, epoch: int, told: tuple[object, ...]) -> bool:
        if not watch.head.is_known or told != watch.head_told or watch.head_age >= HEAD_EVERY_LOOKS:
            return True
        current, head = record.generation, watch.head.stored
        if current is None or record.phase.over:
            return False
        return head is None or (head.value.epoch, head.value.generation) != (epoch, current.number)

    def _view(self, instance: str, watch: JobWatch, now_s: float) -> InstanceView:
        heartbeat, assignment = watch.heartbeat(instance, now_s), watch.assignment(instance).stored
        sighting, told_at_s = watch.sightings.get(instance, (None, now_s))
        if heartbeat.beat is None and sighting is None:
            # Who is not there yet, for want of capacity, is not silent.
            heartbeat.changed_at_s = heartbeat.moved_at_s = now_s
        return InstanceView(
            state=None if sighting is None else sighting.state,
            vanished=self._is_vanished(instance, watch, now_s),
            never_shown=self._is_never_shown(instance, watch),
            lived_s=None if sighting is None else _lived_s(sighting, now_s - told_at_s),
            why_gone="" if sighting is None else sighting.why,
            never_was=instance in watch.never_was,
            heartbeat=heartbeat.beat,
            silent_s=max(0.0, now_s - heartbeat.changed_at_s),
            stalled_s=max(0.0, now_s - heartbeat.moved_at_s),
            is_live=heartbeat.is_live,
            assignment=assignment.value if assignment else None,
            launch_failure=watch.launch_failures.pop(instance, None),  # told once; launching again tells again
            terminated=instance in watch.terminated,
        )

    def _is_vanished(self, instance: str, watch: JobWatch, now_s: float) -> bool:
        if watch.state(instance) is not None:
            watch.unknown_since_s.pop(instance, None)
            return False
        assert watch.spec is not None
        lag_s = self.fleets[watch.spec.resources.fleet].lag_s
        return now_s - watch.unknown_since_s.setdefault(instance, now_s) >= lag_s

    def _is_never_shown(self, instance: str, watch: JobWatch) -> bool:
        taken_s = watch.taken_since_s.get(instance)
        if taken_s is None or watch.state(instance) is not None:
            return False
        assert watch.spec is not None
        return watch.fleet_asked_at_s > taken_s + self.fleets[watch.spec.resources.fleet].lag_s

    def _offered(self, resources: Resources, instance_type: str) -> "_Offered":
        """How an instance type may be had; asked again after a while. What was offered last stands until then."""
        key, now_s = (resources.fleet, resources.market, resources.region, instance_type), self.monotonic()
        known = self._offers.get(key)
        if known is None or now_s >= known.until_s:
            try:
                offers = tuple(self.fleets[resources.fleet].offers(resources, instance_type))
                known = _Offered(offers, None, now_s + OFFERS_KEPT_S)
            except LaunchError as error:
                known = _Offered((), LaunchFailure(str(error), error.kind), now_s + ASK_AGAIN_S)
            except ElasticError as error:
                offers = () if known is None else known.offers
                failure = None if offers else LaunchFailure(str(error), "capacity")
                known = _Offered(offers, failure, now_s + ASK_AGAIN_S)
            self._offers[key] = known
        return known


@dataclass(frozen=True)
class _Offered:
    """What a fleet has answered, and until when that is not asked again."""

    offers: tuple[Offer, ...]
    failure: LaunchFailure | None
    until_s: float


def _lived_s(sighting: Sighting, since_s: float) -> float | None:
    """How long an instance has been paid for, so long after the fleet told it."""
    if sighting.lived_s is None or sighting.state is InstanceState.GONE:
        return sighting.lived_s
    return sighting.lived_s + since_s


def _told_of_head(beat: Heartbeat) -> tuple[object, ...]:
    """What of a heartbeat speaks of the head: a commit, a checkpoint that was rejected, an end."""
    notices = beat.notices[-1].number if beat.notices else 0
    return (beat.generation, beat.committed_step, notices, beat.exit is not None)
