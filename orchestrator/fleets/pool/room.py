"""Which machine of the pool an instance is given, and what of it. Pure.

Whole GPUs of the kind that is asked for or, on machines without any, cores. GPUs go first where both will do, and a
generation has the one or the other. Then goes room that nobody holds. What the same job's other generations hold is
taken only where there is no other: they end before the new one starts.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from orchestrator.fleets.pool.records import Given, Gpu, Order, Orders, Report, free_of, held_on, kinds_of
from orchestrator.fleets.protocol import LaunchRequest

ANY = "any"
CPU = "cpu"
"""The kind of a machine without GPUs."""


@dataclass(frozen=True)
class Room:
    """Where an instance is to run, and what it has there."""

    machine: str
    given: Given


def find_room(request: LaunchRequest, reports: Sequence[Report], orders: Orders) -> Room | None:
    """The best place for an instance on machines that take orders; None: there is none.

    Nor is there one where those of its generation that are still without would find none.
    """
    return next(
        (room for room in _best(request, reports, orders) if _leaves_room(request, room, reports, orders)), None
    )


def _best(request: LaunchRequest, reports: Sequence[Report], orders: Orders) -> list[Room]:
    """Where it could be, the best place first."""
    others = _placed(request, reports, orders)
    near = [
        report for report in reports if all(_can_talk(report, other) and _is_alike(report, other) for other in others)
    ]
    rooms = [room for report in near for room in _rooms(request, report, orders)]
    return [room for _, room in sorted(rooms, key=lambda room: (*room[0], room[1].machine))]


def _leaves_room(request: LaunchRequest, room: Room, reports: Sequence[Report], orders: Orders) -> bool:
    """Whether those of its generation that are still without a place find one too, each after the other."""
    everyone = {request.instance, *request.beside}
    for name in request.beside if request.count > 1 else ():
        if orders.machine_of(name) is None:
            order = Order(machine=room.machine, seq=orders.seq + 1, request=request, given=room.given)
            orders = orders.with_order(request.instance, order)
            request = replace(request, instance=name, beside=tuple(everyone - {name}))
            rooms = _best(request, reports, orders)
            if not rooms:
                return False
            room = rooms[0]
    return True


def why_no_room(request: LaunchRequest, reports: Sequence[Report], orders: Orders, unheard: Sequence[str]) -> str:
    """What was wanted and what there is, for a person. `unheard`: machines that are left out, by their names."""
    wanted = _wanted(request)
    if not reports:
        there = f" that can be heard ({', '.join(unheard)} cannot)" if unheard else ""
        return f"{wanted} wanted, and the pool has no machine{there}: join one with elastic agent --join"
    told = "; ".join(_told(report, orders) for report in sorted(reports, key=lambda report: report.machine))
    told += f"; nothing is heard of {', '.join(unheard)}" if unheard else ""
    if not any(matches(request.instance_type, report) for report in reports):
        return f"{wanted} wanted, and no machine of the pool is called so: {told}"
    others = _placed(request, reports, orders)
    roomy = [report for report in reports if any(True for _ in _rooms(request, report, orders))]
    alike = [report for report in roomy if all(_is_alike(report, other) for other in others)]
    if roomy and not alike:
        have = "GPUs" if others[0].gpus else "no GPUs"
        return f"{wanted} wanted on a machine that has {have}, as those of its generation have: {told}"
    if alike and not any(all(_can_talk(report, other) for other in others) for report in alike):
        return (
            f"{wanted} wanted beside the others of its generation, which another machine cannot reach by their "
            f"addresses (elastic agent --join --address): {told}"
        )
    return f"{wanted} wanted, and the pool has {told}"


def matches(instance_type: str, report: Report) -> bool:
    """Whether a machine is, or has, what a rung calls for."""
    return bool(_fitting(instance_type, report)) or (not report.gpus and _is_called(instance_type, report))


def _placed(request: LaunchRequest, reports: Sequence[Report], orders: Orders) -> list[Report]:
    """The machines of those of its generation that have a place already."""
    if request.count == 1:
        return []
    machines = {name: report for report in reports for name in held_on(report, orders)}
    return [machines[name] for name in request.beside if name in machines]


def _is_alike(one: Report, other: Report) -> bool:
    """Whether both have GPUs, or neither: half of a generation on cores would hold up the other half."""
    return bool(one.gpus) == bool(other.gpus)


def _can_talk(one: Report, other: Report) -> bool:
    if one.host.host == other.host.host:
        return True
    return not any(ipaddress.ip_address(report.address).is_loopback for report in (one, other))


def _rooms(request: LaunchRequest, report: Report, orders: Orders) -> Iterable[tuple[tuple[int, int, int, int], Room]]:
    """The place on a machine, if there is one, and how good it is: the least is the best.

    GPUs; nothing that anybody holds; beside others of its generation; and where the least is left over.
    """
    held = {name: part for name, part in held_on(report, orders).items() if name != request.instance}
    beside = any(name in request.beside for name in held)
    for overlaps in (False, True):
        parts = [given for name, (job, given) in held.items() if not (overlaps and _ends_soon(request, name, job))]
        free = free_of(report, parts)
        given = _take(request, report, free)
        if given is not None:
            left = len(free.gpus) - len(given.gpus) + free.cores - given.cores
            yield (int(not report.gpus), int(overlaps), int(not beside), left), Room(report.machine, given)
            return


def _ends_soon(request: LaunchRequest, instance: str, job: str) -> bool:
    """Whether what another instance holds is free when this one needs it: it is of a generation before."""
    return job == request.job and instance not in request.beside


def _take(request: LaunchRequest, report: Report, free: Given) -> Given | None:
    if report.gpus:
        fitting = [gpu.index for gpu in _fitting(request.instance_type, report) if gpu.index in free.gpus]
        return Given(gpus=tuple(fitting[: request.workers])) if len(fitting) >= request.workers else None
    cores = request.workers * request.cores_per_worker
    return Given(cores=cores) if _is_called(request.instance_type, report) and cores <= free.cores else None


def _fitting(instance_type: str, report: Report) -> list[Gpu]:
    """The GPUs that a rung may have of a machine."""
    if _is_called(instance_type, report):
        return list(report.gpus)
    return [gpu for gpu in report.gpus if _has_words(gpu.name, instance_type)]


def _is_called(instance_type: str, report: Report) -> bool:
    if instance_type == CPU:
        return not report.gpus
    name, _, value = instance_type.partition("=")
    return instance_type in (ANY, report.machine) or (bool(value) and report.labels.get(name) == value)


def _has_words(name: str, wanted: str) -> bool:
    """Whether the words of a GPU's name have these among them, one after the other: 'rtx-4090' is one's name."""
    words, parts = _words(name), _words(wanted)
    return any(words[at : at + len(parts)] == parts for at in range(len(words) - len(parts) + 1))


def _words(name: str) -> list[str]:
    return name.lower().replace("-", " ").split()


def _wanted(request: LaunchRequest) -> str:
    """'1 GPU of l4 (without GPUs 2 cores)', and how many times that where one does not go without the others."""
    kind = "" if request.instance_type in (ANY, CPU) else f" of {request.instance_type}"
    times = f"{request.count} times " if request.count > 1 else ""
    cores = request.workers * request.cores_per_worker
    if request.instance_type == CPU:
        return f"{times}{_count(cores, 'core')} of a machine without GPUs"
    if request.instance_type == ANY:
        return f"{times}{_count(request.workers, 'GPU')}, or {_count(cores, 'core')} of a machine without GPUs,"
    return f"{times}{_count(request.workers, 'GPU')}{kind} (without GPUs {_count(cores, 'core')})"


def _told(report: Report, orders: Orders) -> str:
    """'gpu-1: 1 of 4 NVIDIA L4 free (used by digits)'."""
    held = held_on(report, orders)
    free = free_of(report, (given for _, given in held.values()))
    jobs = ", ".join(sorted({job for job, _ in held.values()}))
    used = f" (used by {jobs})" if jobs else ""
    if not report.gpus:
        return f"{report.machine}: {free.cores} of {_count(report.cores, 'core')} free{used}"
    left = kinds_of(gpu for gpu in report.gpus if gpu.index in free.gpus)
    kinds = [f"{left.get(kind, 0)} of {many} {kind}" for kind, many in kinds_of(report.gpus).items()]
    return f"{report.machine}: {', '.join(kinds)} free{used}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
