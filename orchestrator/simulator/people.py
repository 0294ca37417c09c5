"""People: they submit, ask, and read checkpoints, each from a machine of their own that may die on the way."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.errors import ElasticError
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import NameTaken, submit_job
from orchestrator.jobs.head import load_head
from orchestrator.jobs.pins import pin, renew, unpin
from orchestrator.jobs.requests import send_request
from orchestrator.simulator.bucket import BucketView
from orchestrator.simulator.head_rules import HeadRules
from orchestrator.simulator.story import Story
from orchestrator.simulator.timeline import Process, Timeline
from orchestrator.spec.models import JobSpec
from orchestrator.store.document import Nonce
from orchestrator.store.protocol import Conflict, StoreError

Kind = Literal["cancel", "pause", "resume", "resize"]

SUBMIT_AGAIN_AFTER_S = 10.0
READ_FOR_S = 90.0


@dataclass
class People:
    """All of them."""

    timeline: Timeline
    view: Callable[[Process], BucketView]
    nonce: Nonce
    story: Story
    heads: HeadRules
    sent: dict[str, list[str]] = field(default_factory=dict)
    """Per job, the requests that were surely left."""
    submitted: set[str] = field(default_factory=set)
    _count: int = 0

    def _process(self, what: str) -> Process:
        self._count += 1
        return Process(self.timeline, f"{what}{self._count}")

    def submit(self, spec: JobSpec) -> None:
        """Submit a job; whoever does not hear that it is there tries again, from another machine if need be."""
        process = self._process("submit")
        store = self.view(process)

        def body() -> None:
            while spec.name not in self.submitted:
                try:
                    submit_job(store, spec, process.now(), self.nonce)
                    self.submitted.add(spec.name)
                except NameTaken:
                    self.submitted.add(spec.name)  # by an earlier try
                except (ElasticError, Conflict):
                    process.sleep(SUBMIT_AGAIN_AFTER_S)

        process.at_death = lambda: self.timeline.after(SUBMIT_AGAIN_AFTER_S, lambda: self.submit(spec))
        process.start(body)

    def ask(self, job: str, kind: Kind, workers: int | None = None) -> None:
        """One person asks for something, once."""
        process = self._process(kind)
        store = self.view(process)

        def body() -> None:
            try:
                request = send_request(
                    store, job, kind, now=process.now(), by=process.name, nonce=self.nonce, workers=workers
                )
            except (StoreError, Conflict):
                self.story.fault(process.name, "does not know whether {} was asked for", kind)
                return
            self.sent.setdefault(job, []).append(request.id)

        process.start(body)

    def read(self, job: str) -> None:
        """Somebody fetches the checkpoint, slowly, with a pin."""
        process = self._process("reader")
        store = self.view(process)

        def forget() -> None:
            self.heads.readers.pop(process.name, None)

        process.at_death = forget

        def body() -> None:
            try:
                self._read(process, store, job)
            except (ElasticError, Conflict):
                pass  # it says so, and whoever wants the checkpoint asks again
            finally:
                forget()

        process.start(body)

    def _read(self, process: Process, store: BucketView, job: str) -> None:
        head = load_head(store, job)
        if head is None or head.value.checkpoint is None:
            return
        checkpoint = head.value.checkpoint
        stored = pin(store, job, checkpoint, by=process.name, nonce=self.nonce)
        name = stored.value.nonce
        if store.get(layout.manifest_key(checkpoint)) is None:
            return  # removed just before
        self.heads.readers[process.name] = checkpoint
        self.story.tell(process.name, "reads {}", checkpoint)
        for _ in range(3):
            process.sleep(READ_FOR_S / 3)
            stored = renew(store, job, name, stored, self.nonce)
        self.heads.readers.pop(process.name, None)
        unpin(store, job, name)
