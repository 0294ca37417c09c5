"""What must be done: everything that the record says should be and that is not seen. Pure.

It follows from the record alone, so a controller that dies at any instruction is continued by the next one, which sees
the same difference and does the same thing.
"""

from datetime import datetime
from typing import Any

from orchestrator.controller import facts
from orchestrator.controller.effects import Assign, DropRequest, Effect, Forget, Launch, Seal, Terminate
from orchestrator.controller.observation import InstanceView, Observation
from orchestrator.controller.placement import launch_request
from orchestrator.controller.recovery import exit_of, is_due
from orchestrator.jobs.instances import LOOPBACK, AssignedProgram, Assignment
from orchestrator.jobs.phases import GenerationPhase
from orchestrator.jobs.record import Generation, JobRecord
from orchestrator.spec.models import JobSpec


def effects_of(record: JobRecord, seen: Observation, now: datetime) -> list[Effect]:
    """Everything that the record says should be and that is not seen."""
    effects: list[Effect] = [DropRequest(record.name, r.id) for r in seen.requests if r.id in record.requests_done]
    effects += _terminations(record, seen)
    effects += [Forget(instance) for instance in seen.record.retired if instance not in record.retired]
    if record.phase.over:
        return effects
    current = record.generation
    if current is not None and current.phase in (
        GenerationPhase.STARTING,
        GenerationPhase.TRAINING,
        GenerationPhase.DRAINING,
    ):
        effects += _effects_of_current(record, current, seen)
    elif current is not None and not current.released:
        effects += _stop_survivors(record, current, seen)
    if record.upcoming is not None and is_due(record.retry_at, now):
        for slot in record.upcoming.slots:
            if not slot.seen and seen.view(slot.instance).state is None:
                use = next((use for use in record.uses if use.instance == slot.instance), None)
                effects.append(Launch(launch_request(seen.spec, record.upcoming, slot, use)))
    return effects


def _terminations(record: JobRecord, seen: Observation) -> list[Effect]:
    """Whoever is retired is ended; who has stopped working only once the next workers have their orders.

    Ending an instance takes a moment, and between two generations training stands still.
    """
    current = record.generation
    waiting = (
        current is not None
        and current.phase is GenerationPhase.STARTING
        and any(not _has_orders(current, seen.view(i)) for i in current.instances)
    )
    return [
        Terminate(instance)
        for instance in record.retired
        if not facts.is_ended(view := seen.view(instance)) and not (waiting and _has_stopped(view))
    ]


def _has_orders(generation: Generation, view: InstanceView) -> bool:
    return view.assignment is not None and view.assignment.generation == generation.number


def _has_stopped(view: InstanceView) -> bool:
    return view.heartbeat is not None and view.heartbeat.state == "stopped"


def _effects_of_current(record: JobRecord, current: Generation, seen: Observation) -> list[Effect]:
    head = seen.head
    if head is None or (head.epoch, head.generation) != (seen.epoch, current.number):
        return [Seal(record.name, seen.epoch, current.number)]
    if not current.sealed:
        return []  # the record first takes in what the seal has fixed
    effects: list[Effect] = []
    address, port = _meeting_point(current, seen)
    for node, instance in enumerate(current.instances):
        present = seen.view(instance).assignment
        order = _order(record, seen, current, node, address, port)
        if present is None or any(getattr(present, name) != told for name, told in order.items()):
            effects.append(Assign(instance, _assignment(seen.spec, order)))
    return effects


def _allowance_s(record: JobRecord, instance: str) -> float | None:
    return next((use.allowance_s for use in record.uses if use.instance == instance), None)


def _stop_survivors(record: JobRecord, ended: Generation, seen: Observation) -> list[Effect]:
    """Whoever still works for a generation that has ended waits in vain for the others: it is told to stop."""
    effects: list[Effect] = []
    for instance in ended.instances:
        view = seen.view(instance)
        present = view.assignment
        if present is None or present.generation != ended.number or instance in record.retired:
            continue
        if present.action != "stop" and exit_of(ended.number, view) is None:
            stop = {"epoch": seen.epoch, "action": "stop", "dump_stacks": ended.stalled}
            effects.append(Assign(instance, present.model_copy(update=stop)))
    return effects


def _meeting_point(current: Generation, seen: Observation) -> tuple[str, int]:
    """Where the nodes of a generation meet: where one of them was sent already, else where the first one offers."""
    for instance in current.instances:
        present = seen.view(instance).assignment
        if present is not None and present.generation == current.number:
            return present.master_address, present.master_port
    first = seen.view(current.instances[0]).heartbeat
    return (first.address, first.port) if first else (LOOPBACK, 0)


def _order(
    record: JobRecord, seen: Observation, current: Generation, node: int, address: str, port: int
) -> dict[str, Any]:
    """What one instance of a generation is told, as far as it can ever change or differ."""
    rung = seen.spec.resources.ladder[current.rung]
    return {
        "epoch": seen.epoch,
        "generation": current.number,
        "action": "drain" if current.phase is GenerationPhase.DRAINING else "run",
        "node_rank": node,
        "nodes": rung.count,
        "workers": rung.workers,
        "instance_id": _machine(seen.view(current.instances[node])),
        "master_address": address,
        "master_port": port,
        "resume": current.resume,
        "allowance_s": _allowance_s(record, current.instances[node]),
    }


def _machine(view: InstanceView) -> str:
    """The machine that the orders are for: the first that spoke under this name, whoever else does so later."""
    given = view.assignment.instance_id if view.assignment is not None else ""
    return given or (view.heartbeat.instance_id if view.heartbeat is not None else "")


def _assignment(spec: JobSpec, order: dict[str, Any]) -> Assignment:
    """The order, with what the job says for all of them."""
    return Assignment(
        **order,
        job=spec.name,
        training=spec.trainer_config,
        program=_program(spec),
        env=spec.resources.env,
        checkpoint_every_s=spec.checkpoint.every,
        checkpoints_kept=spec.checkpoint.keep,
        stall_after_s=spec.limits.stall,
        keep_free_bytes=spec.checkpoint.keep_free,
        memory_bytes=spec.resources.memory,
        shared_memory_bytes=spec.resources.shared_memory,
    )


def _program(spec: JobSpec) -> AssignedProgram | None:
    if spec.command is None:
        return None
    return AssignedProgram(command=spec.command, working_dir=spec.working_dir, threads=spec.threads_per_worker)
