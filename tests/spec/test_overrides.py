"""`--set training.seed=3`: values from the command line over those of the file."""

import pytest

from orchestrator.spec.load import load_job
from orchestrator.spec.problems import SpecError
from tests.spec.test_load import JOB, heads_of
from tests.support.specs import trained


def test_values_are_read_as_yaml() -> None:
    job = load_job(
        JOB,
        [
            "name=other",
            "training.seed=3",
            "training.optimizer.lr=1e-3",
            "training.labels=10%",
            "training.optimizer.nesterov=false",
            "scaling.window=8s",
            "labels={team: vision, run: '7'}",
            "resources.env.LEVEL='3'",
            "resources.ladder.1.workers=4",
            "limits.deadline=",
        ],
    )

    assert job.name == "other"
    assert trained(job).seed == 3
    assert trained(job).optimizer.lr == 0.001
    assert trained(job).labels == "10%"
    assert trained(job).optimizer.nesterov is False
    assert job.scaling.window == 8
    assert job.labels == {"team": "vision", "run": "7"}
    assert job.resources.env == {"LEVEL": "3"}
    assert [rung.workers for rung in job.resources.ladder] == [1, 4]
    assert job.limits.deadline is None


def test_the_last_one_holds() -> None:
    assert trained(load_job(JOB, ["training.seed=3", "training.seed=4"])).seed == 4


def test_one_can_mend_the_file() -> None:
    assert load_job(JOB.replace("name: digits", "name: 5"), ["name=digits"]).name == "digits"


def test_one_can_replace_a_whole_ladder() -> None:
    assert load_job(JOB, ["resources.ladder=[{workers: 4}]"]).resources.ladder[0].workers == 4


MISTAKES = {
    "misspelt": ("training.sed=3", "--set training.sed=3: unknown field (did you mean 'seed'?)"),
    "section misspelt": ("trainig.seed=3", "--set trainig.seed=3: trainig: unknown field (did you mean 'training'?)"),
    "wrong type": ("training.seed=x", "--set training.seed=x: must be a whole number"),
    "out of bounds": ("scaling.up_above=101", "--set scaling.up_above=101: must be at most 100"),
    "unit missing": ("scaling.window=8", "--set scaling.window=8: the unit is missing: write 8s"),
    "within a value": ("scaling={windw: 8s}", "--set scaling={windw: 8s}: scaling.windw: unknown field (did you mean"),
    "text": ("labels.run=7", "--set labels.run=7: must be text, but YAML reads 7 as a number; quote it: '7'"),
    "conflict with the file": (
        "training.shards=1024",
        "--set training.shards=1024: training.batch: 64 images cannot be split over 1024 shards evenly; 1024 can",
    ),
    "no value": ("training.seed", "--set training.seed: must be FIELD=VALUE, such as training.seed=3"),
    "no field": ("=3", "--set =3: must be FIELD=VALUE"),
    "empty part": ("training..seed=3", "--set training..seed=3: must be FIELD=VALUE"),
    "not YAML": ("name=[a", "--set name=[a: the value is not YAML: "),
    "no such rung": ("resources.ladder.2.workers=4", "resources.ladder has no entry '2'; its 2 are counted from 0"),
    "no number": ("resources.ladder.first.workers=4", "resources.ladder has no entry 'first'"),
    "a field of a value": ("name.first=x", "--set name.first=x: name is a single value and has no field 'first'"),
}


@pytest.mark.parametrize(("override", "message"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_names_the_argument(override: str, message: str) -> None:
    heads = heads_of(JOB, override)

    assert message in heads[0]
    assert all(head.startswith(f"--set {override}: ") for head in heads)


def test_mistakes_of_file_and_command_line_are_told_together() -> None:
    file, value, field = heads_of(JOB + "seeds: 3\n", "training.sed=3", "name=[")

    assert file.startswith("job.yaml:10:1: seeds: unknown field; there are name, training, ")
    assert value.startswith("--set name=[: the value is not YAML: ")
    assert field == "--set training.sed=3: unknown field (did you mean 'seed'?)"


def test_a_ladder_that_the_file_leaves_out_is_set_as_a_whole() -> None:
    text = "name: a\ntraining: {steps: 1}\n"

    with pytest.raises(SpecError, match=r"resources\.ladder: must be a list"):
        load_job(text, ["resources.ladder.0.workers=2"])
    assert load_job(text, ["resources.ladder=[{workers: 2}]"]).resources.ladder[0].workers == 2
