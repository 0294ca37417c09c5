"""Which machine of the pool an instance is given, and what of it. Pure.

Whole GPUs of the kind that is asked for or, on machines without any, cores. Room that nobody holds goes first. What the
same job's other generations hold is taken only where there is no other: they end before the new one starts.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestrator.fleets.pool.records import Given, Gpu, Orders, Report, free_of, held_on, kinds_of
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
    """The best place for an instance on machines that take orders; None: there is none."""
    together = reachable(request, reports, orders)
    rooms = [room for report in together for room in _rooms(request, report, orders)]
    return min(rooms, key=lambda room: (*room[0], room[1].machine))[1] if rooms else None


def why_no_room(request: LaunchRequest, reports: Sequence[Report], orders: Orders, silent: Sequence[str]) -> str:
    """What was wanted and what there is, for a person."""
    wanted = _wanted(request)
    if not reports:
        unheard = f" that can be heard ({', '.join(silent)} cannot)" if silent else ""
        return f"{wanted} wanted, and the pool has no machine{unheard}: join one with elastic agent --join"
    told = "; ".join(_told(report, orders) for report in sorted(reports, key=lambda report: report.machine))
    if not any(matches(request.instance_type, report) for report in reports):
        return f"{wanted} wanted, and no machine of the pool is called so: {told}"
    near = reachable(request, reports, orders)
    if any(_rooms(request, report, orders) for report in reports if report not in near):
        return (
            f"{wanted} wanted beside the others of its generation, which another machine cannot reach by their "
            f"addresses (elastic agent --join --address): {told}"
        )
    return f"{wanted} wanted, and the pool has {told}"


def matches(instance_type: str, report: Report) -> bool:
    """Whether a machine is, or has, what a rung calls for."""
    return bool(_fitting(instance_type, report)) or (not report.gpus and _is_called(instance_type, report))


def reachable(request: LaunchRequest, reports: Sequence[Report], orders: Orders) -> list[Report]:
    """The machines on which an instance can talk to the others of its generation that have a place already."""
    if request.count == 1:
        return list(reports)
    hosts = {name: report for report in reports for name in held_on(report, orders)}
    others = [hosts[name] for name in request.beside if name in hosts]
    return [report for report in reports if all(_can_talk(report, other) for other in others)]


def _can_talk(one: Report, other: Report) -> bool:
    if one.host.host == other.host.host:
        return True
    return not any(ipaddress.ip_address(report.address).is_loopback for report in (one, other))


def _rooms(request: LaunchRequest, report: Report, orders: Orders) -> Iterable[tuple[tuple[int, int, int], Room]]:
    """The place on a machine, if there is one, and how good it is: the least is the best.

    Nothing that anybody holds; beside others of its generation; and where the least is left over.
    """
    held = {name: part for name, part in held_on(report, orders).items() if name != request.instance}
    beside = any(name in request.beside for name in held)
    for overlaps in (False, True):
        parts = [given for name, (job, given) in held.items() if not (overlaps and _ends_soon(request, name, job))]
        free = free_of(report, parts)
        given = _take(request, report, free)
        if given is not None:
            left = len(free.gpus) - len(given.gpus) + free.cores - given.cores
            yield (int(overlaps), int(not beside), left), Room(report.machine, given)
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
    kind = "" if request.instance_type in (ANY, CPU) else f" of {request.instance_type}"
    cores = request.workers * request.cores_per_worker
    if request.instance_type == CPU:
        return f"{_count(cores, 'core')} of a machine without GPUs"
    if request.instance_type == ANY:
        return f"{_count(request.workers, 'GPU')}, or {_count(cores, 'core')} of a machine without GPUs,"
    return f"{_count(request.workers, 'GPU')}{kind} (without GPUs {_count(cores, 'core')})"


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
