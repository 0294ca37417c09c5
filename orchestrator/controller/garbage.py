"""What a job has left behind that nobody needs: chosen from listings. Pure.

Never what the head names, nor what a living reader has pinned. While workers may live, only their agents remove
checkpoints: they know what they are uploading.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from orchestrator.controller.watch import instances_of
from orchestrator.jobs import layout
from orchestrator.jobs.head import Head
from orchestrator.jobs.record import JobRecord

DECISIONS_KEPT = 1000


def is_at_rest(record: JobRecord) -> bool:
    """Whether nothing runs and nothing is coming up: no agent of the job can be at work."""
    generation = record.generation
    nothing_runs = generation is None or generation.ended_at is not None
    return nothing_runs and record.upcoming is None and not record.retired and not record.uses


def spare_checkpoints(
    record: JobRecord, keys: Iterable[str], head: Head, pinned: Collection[str], keep: int
) -> dict[str, list[str]]:
    """The keys of checkpoints that can go, by their prefixes, of a job at rest.

    Those of generations that the record does not know are left alone: whoever looks may have been followed by another
    leader without knowing it, and the job may run again.

    The `keep` newest whole ones stay. What is half uploaded, rejected, or past the head is of no use to anybody. Of
    each, the manifest comes first: half a checkpoint must never look whole.
    """
    found = _by_checkpoint(record, keys)
    at = layout.parse_checkpoint(head.checkpoint.rstrip("/").rpartition("/")[2]) if head.checkpoint else None
    whole: list[str] = []
    useless: list[str] = []
    for place, (prefix, present) in sorted(found.items()):
        is_sound = layout.manifest_key(prefix) in present and prefix not in head.rejected
        (whole if is_sound and at is not None and place <= at else useless).append(prefix)
    spare = [prefix for prefix in (*useless, *whole[:-keep]) if prefix != head.checkpoint and prefix not in pinned]
    by_prefix = dict(found.values())
    return {prefix: sorted(by_prefix[prefix], key=lambda key: key != layout.manifest_key(prefix)) for prefix in spare}


def spare_instances(record: JobRecord, found: Iterable[str]) -> list[str]:
    """Instances that are gone, of which the bucket holds something: those of generations that are over."""
    named = set(instances_of(record))
    generations = [g.number for g in (record.generation, record.upcoming) if g is not None and not g.released]
    over = min(generations, default=record.last_generation + 1)
    return [i for i in found if i not in named and layout.generation_of(i) < over]


def _by_checkpoint(record: JobRecord, keys: Iterable[str]) -> dict[tuple[int, int], tuple[str, list[str]]]:
    """Prefix and keys of everything that is named like a checkpoint, by step and generation."""
    job = record.name
    names: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        names[key.removeprefix(layout.checkpoints_prefix(job)).partition("/")[0]].append(key)
    return {
        place: (layout.checkpoint_at(job, name), present)
        for name, present in names.items()
        if (place := layout.parse_checkpoint(name)) is not None and place[1] <= record.last_generation
    }


def spare_log_generations(numbers: Iterable[int], keep: int) -> list[int]:
    """The generations whose logs can go: all but the newest `keep`."""
    return sorted(numbers)[:-keep]


def spare_decisions(keys: Sequence[str]) -> Sequence[str]:
    """The kept decisions that can go: all but the newest; `keys` in their order."""
    return keys[:-DECISIONS_KEPT]
