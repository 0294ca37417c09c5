"""Every kind of mistake in a job.yaml that is valid YAML, and the one message for it."""

import pytest
from pydantic import ValidationError

from orchestrator.spec.explain import mistakes
from orchestrator.spec.models import JobSpec
from tests.spec.test_load import JOB, heads_of

# What is written below (added to JOB), and the one message for it.
ONE_MISTAKE = {
    "wrong type": ("checkpoint: {keep: many}", "10:20: checkpoint.keep: must be a whole number"),
    "a fraction": ("checkpoint: {keep: 2.5}", "10:20: checkpoint.keep: must be a whole number"),
    "a whole number as a fraction": (
        "checkpoint: {keep: 1e1}",
        "checkpoint.keep: must be a whole number; write 10 for 1e1",
    ),
    "a quoted number": ("checkpoint: {keep: '3'}", "checkpoint.keep: must be a whole number; write it without quotes"),
    "true for a number": ("checkpoint: {keep: true}", "checkpoint.keep: must be a whole number"),
    "out of bounds": ("checkpoint: {keep: 1}", "checkpoint.keep: must be at least 2"),
    "not finite": ("limits: {max_cost: .inf}", "limits.max_cost: must be a finite number"),
    "unit missing": ("checkpoint: {every: 10}", "10:21: checkpoint.every: the unit is missing: write 10s"),
    "unit of a size missing": (
        "checkpoint: {keep_free: 4096}",
        "checkpoint.keep_free: the unit is missing: write 4096MiB",
    ),
    "no time at all": ("scaling: {window: 0s}", "scaling.window: must be more than 0s"),
    "no value": ("scaling:", "10:1: scaling: has no value"),
    "a section that is none": (
        "scaling: fast",
        "10:10: scaling: must be a mapping of fields, each on a line of its own",
    ),
    "unknown field": ("scaling: {windw: 8s}", "10:11: scaling.windw: unknown field (did you mean 'window'?)"),
    "unknown field, no idea": (
        "limits: {colour: red}",
        "limits.colour: unknown field; there are max_cost, max_hourly_cost, deadline, stall, max_f",
    ),
    "field of another section": ("seed: 3", "10:1: seed: unknown field (did you mean 'training.seed'?)"),
    "hyphen": ("limits: {max-cost: 3}", "10:10: limits.max-cost: unknown field (did you mean 'max_cost'?)"),
    "duplicate key": ("name: again", "10:1: name: duplicate key; line 1 has it already"),
    "merge key": ("<<: {name: x}", "10:1: <<: YAML 1.2 has no merge keys; repeat the fields"),
    "tag": ("labels: {a: !secret x}", "10:13: the tag !secret means nothing here; remove it"),
    "no text key": ("labels: {? [a] : b}", "10:12: a field's name must be text"),
    "min above max": ("scaling: {min: 2, max: 1}", "10:16: scaling.min: 2 workers at least are more than 1 at most"),
    "up not above down": (
        "scaling: {up_above: 30}",
        "10:21: scaling.up_above: must be above down_below (30), or the job would grow and shrink by turns",
    ),
    "no rung at the top": (
        "scaling: {min: 4}",
        "10:16: scaling.min: no rung has 4 or more workers; the ladder has 1, 2",
    ),
    "a label that is no text": (
        "labels: {run: 7}",
        "labels.run: must be text, but YAML reads 7 as a number; quote it: '7'",
    ),
    "a label that is true": ("labels: {good: true}", "labels.good: must be text, but YAML reads true as true or false"),
    "a label that is a list": ("labels: {good: [1]}", "labels.good: must be text, not a list"),
}


@pytest.mark.parametrize(("addition", "message"), ONE_MISTAKE.values(), ids=list(ONE_MISTAKE))
def test_one_mistake_has_one_message(addition: str, message: str) -> None:
    (head,) = heads_of(JOB + addition + "\n")

    assert message in head


# Text to replace in JOB, what with, and the one message for it.
ONE_CHANGE = {
    "name is a number": (
        "name: digits",
        "name: 1e5",
        "1:7: name: must be text, but YAML reads 1e5 as a number; quote it",
    ),
    "name is no name": ("name: digits", "name: My Job", "1:7: name: must be lower-case letters"),
    "name is missing": ("name: digits\n", "", "1:1: name: required field is missing"),
    "name is misspelt": ("name: digits", "nmae: digits", "1:1: nmae: unknown field (did you mean 'name'?)"),
    "section is misspelt": ("training:", "trainig:", "2:1: trainig: unknown field (did you mean 'training'?)"),
    "length is missing": ("steps: 100", "seed: 1", "2:1: training.epochs: how long to train? give epochs or steps"),
    "length is misspelt": ("steps: 100", "stpes: 100", "3:3: training.stpes: unknown field (did you mean 'steps'?)"),
    "length is twofold": ("steps: 100", "steps: 100\n  epochs: 3", "3:10: training.steps: epochs is given too"),
    "yes": (
        "steps: 100",
        "steps: 100\n  optimizer: {nesterov: yes}",
        "must be true or false; YAML 1.2 reads yes as text",
    ),
    "neither a number nor a word": (
        "steps: 100",
        "steps: 100\n  loading: {workers: many}",
        "4:22: training.loading.workers: must be a whole number or 'auto'",
    ),
    "a word instead of a number is misspelt": (
        "steps: 100",
        "steps: 100\n  loading: {workers: atuo}",
        "4:22: training.loading.workers: no such value 'atuo' (did you mean 'auto'?)",
    ),
    "a number out of bounds where a word would do": (
        "steps: 100",
        "steps: 100\n  augmentation: {translate_px: -1}",
        "4:32: training.augmentation.translate_px: must be at least 0 or 'auto'",
    ),
    "yes where true, false or a word would do": (
        "steps: 100",
        "steps: 100\n  augmentation: {flip: yes}",
        "training.augmentation.flip: must be true or false or 'auto'; YAML 1.2 reads yes as text, write true",
    ),
    "a mapping where a number or a word would do": (
        "steps: 100",
        "steps: 100\n  loading: {workers: {a: 1}}",
        "4:22: training.loading.workers: must be a whole number or 'auto'",
    ),
    "an entry of a list": (
        "steps: 100",
        "steps: 100\n  schedule: {name: step, milestones: [0.5, 1.5]}",
        "4:44: training.schedule.milestones.1: must be less than 1",
    ),
    "a list is a number": (
        "steps: 100",
        "steps: 100\n  schedule: {name: step, milestones: 0.5}",
        "4:38: training.schedule.milestones: must be a list",
    ),
    "no folders for a folder": (
        "steps: 100",
        "steps: 100\n  dataset: folder",
        "training.folders: which folders? dataset: folder needs folders.labelled and folders.test",
    ),
    "folders for no folder": (
        "steps: 100",
        "steps: 100\n  folders: {labelled: a, test: b}",
        "4:12: training.folders: are for dataset: folder, and the data set is digits",
    ),
    "a folder is missing": (
        "steps: 100",
        "steps: 100\n  dataset: folder\n  folders: {labelled: a}",
        "5:3: training.folders.test: required field is missing",
    ),
    "a folder in no bucket": (
        "steps: 100",
        "steps: 100\n  dataset: folder\n  folders: {labelled: 's3:///a', test: b}",
        "5:23: training.folders.labelled: names no bucket: write s3://BUCKET/PREFIX",
    ),
    "a folder somewhere else": (
        "steps: 100",
        "steps: 100\n  dataset: folder\n  folders: {labelled: a, test: 'gs://b/c'}",
        "5:32: training.folders.test: must be a directory or s3://BUCKET/PREFIX, not gs://",
    ),
    "a data directory in a bucket": (
        "steps: 100",
        "steps: 100\n  data_dir: s3://a-bucket/b",
        "4:13: training.data_dir: must be a path on the instances, not s3://; only folders may be s3://",
    ),
    "a folder's name is empty": (
        "steps: 100",
        "steps: 100\n  dataset: folder\n  folders: {labelled: '', test: b}",
        "5:23: training.folders.labelled: must not be empty",
    ),
    "a folder is misspelt": (
        "steps: 100",
        "steps: 100\n  dataset: folder\n  folders: {labeled: a, test: b}",
        "5:13: training.folders.labeled: unknown field (did you mean 'labelled'?)",
    ),
    "a field of folders elsewhere": (
        "steps: 100",
        "steps: 100\n  unreadable: skip",
        "4:3: training.unreadable: unknown field (did you mean 'training.folders.unreadable'?)",
    ),
    "value is misspelt": (
        "steps: 100",
        "steps: 100\n  method: mean-teacher",
        "no such value 'mean-teacher' (did you mean",
    ),
    "value is unknown": ("steps: 100", "steps: 100\n  dataset: imagenet", "4:12: training.dataset: must be 'digits'"),
    "labels are more than images": (
        "steps: 100",
        "steps: 100\n  labels: 1438",
        "4:11: training.labels: 1438 labels are",
    ),
    "labels are fewer than classes": (
        "steps: 100",
        "steps: 100\n  labels: 9",
        "4:11: training.labels: 9 labels are too few",
    ),
    "labels are nonsense": (
        "steps: 100",
        "steps: 100\n  labels: 110%",
        "must be a number of images (50) or a share of",
    ),
    "seed is too large": (
        "steps: 100",
        f"steps: 100\n  seed: {2**63}",
        f"4:9: training.seed: must be at most {2**63 - 1}",
    ),
    "threads beyond any machine": (
        "steps: 100",
        "steps: 100\n  threads: 1025",
        "training.threads: must be at most 1024",
    ),
    "shards beyond any fleet": ("shards: 8", f"shards: {2**40}", "5:11: training.shards: must be at most 1024"),
    "a batch beyond any memory": ("batch: 64", f"batch: {2**40}", "4:10: training.batch: must be at most 1048576"),
    "shards": ("shards: 8", "shards: 12", "5:11: training.shards: must be a power of two: 8 or 16, not 12"),
    "batch": (
        "batch: 64",
        "batch: 60",
        "4:10: training.batch: 60 images cannot be split over 8 shards evenly; 56 or 64",
    ),
    "ladder is empty": (
        "ladder:\n    - {workers: 1}\n    - {workers: 2}",
        "ladder: []",
        "7:11: resources.ladder: must have at",
    ),
    "ladder is no list": (
        "ladder:\n    - {workers: 1}\n    - {workers: 2}",
        "ladder: 2",
        "resources.ladder: must be a list",
    ),
    "ladder descends": (
        "- {workers: 1}",
        "- {workers: 4}",
        "9:7: resources.ladder.1: the ladder must climb: this rung has 2",
    ),
    "ladder stays": ("- {workers: 1}", "- {workers: 2}", "9:7: resources.ladder.1: the ladder must climb"),
    "a rung is misspelt": (
        "- {workers: 1}",
        "- {wrokers: 1}",
        "8:8: resources.ladder.0.wrokers: unknown field (did you mea",
    ),
    "a rung is a number": ("- {workers: 1}", "- 1", "8:7: resources.ladder.0: must be a mapping of fields"),
    "workers do not divide shards": (
        "- {workers: 2}",
        "- {workers: 3}",
        "9:17: resources.ladder.1.workers: 8 shards cannot be split over 3 workers evenly; 2 or 4 can",
    ),
    "more workers than shards": (
        "- {workers: 2}",
        "- {workers: 16}",
        "9:17: resources.ladder.1.workers: 8 shards cannot be split over 16 workers evenly; 8 can",
    ),
    "instance": (
        "- {workers: 1}",
        "- {instance: g5.xlarge}",
        "8:18: resources.ladder.0.instance: the local fleet has no",
    ),
    "an image with a space in its name": (
        "resources:",
        "resources:\n  image: trainer :1",
        "7:10: resources.image: must be a name such as registry.example/trainer:1, without spaces",
    ),
    "memory of processes": (
        "resources:",
        "resources:\n  memory: 4GiB",
        "7:11: resources.memory: is a container's, and workers without an image are processes; name image too",
    ),
    "memory that no Python starts in": (
        "resources:",
        "resources:\n  image: trainer:1\n  memory: 1MiB",
        "8:11: resources.memory: must be at least 64MiB",
    ),
    "environment is no mapping": ("resources:", "resources:\n  env: [A=1]", "7:8: resources.env: must be a mapping"),
    "environment holds a number": (
        "resources:",
        "resources:\n  env: {PORT: 80}",
        "7:15: resources.env.PORT: must be text",
    ),
    "environment has no such name": (
        "resources:",
        "resources:\n  env: {A-B: c}",
        "7:9: resources.env.A-B: must be letters",
    ),
    "environment is elastic's": (
        "resources:",
        "resources:\n  env: {RANK: '1'}",
        "7:9: resources.env.RANK: is set by elastic",
    ),
}


@pytest.mark.parametrize(("old", "new", "message"), ONE_CHANGE.values(), ids=list(ONE_CHANGE))
def test_one_change_has_one_message(old: str, new: str, message: str) -> None:
    assert old in JOB
    (head,) = heads_of(JOB.replace(old, new))

    assert message in head


def test_a_mistake_of_the_whole_is_told_too() -> None:
    with pytest.raises(ValidationError) as whole:
        JobSpec.model_validate([])
    [mistake] = mistakes(whole.value, [], {})
    assert mistake.fields == ((),)
    assert mistake.message.startswith("must be a mapping of fields")
