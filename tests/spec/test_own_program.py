"""`command` in job.yaml: what a program of one's own is given, and one sentence for each mistake, at its place."""

import pytest

from orchestrator.spec.load import load_job
from orchestrator.spec.models import JobSpec
from orchestrator.spec.own_program import described_command
from tests.spec.test_load import heads_of, problems_of

OWN = """\
name: own
command: [python, train.py, --out, "{run_dir}"]
config: {epochs: 20, layers: [64, 10], nested: {warm: true, none: null}}
working_dir: src
resources:
  threads: 3
  ladder: [{workers: 3}, {workers: 5}]
"""
EC2 = "resources: {fleet: ec2, ladder: [{instance: g6.xlarge}]}\n"


def test_a_program_and_its_config_are_read_as_they_stand() -> None:
    job = load_job(OWN)

    assert job.command == ("python", "train.py", "--out", "{run_dir}")
    assert job.trainer_config == {"epochs": 20, "layers": [64, 10], "nested": {"warm": True, "none": None}}
    assert (job.training, job.working_dir, job.threads_per_worker) == (None, "src", 3)
    assert JobSpec.model_validate_json(job.model_dump_json()) == job


def test_any_number_of_workers_is_possible() -> None:
    job = load_job(OWN)

    assert job.allowed_rungs == [0, 1]
    assert job.can_have(7)


def test_a_command_alone_is_a_job() -> None:
    job = load_job("name: own\ncommand: [./run]\n")

    assert (job.trainer_config, job.threads_per_worker) == ({}, 1)


def test_the_trainers_jobs_are_as_before() -> None:
    job = load_job("name: digits\ntraining: {steps: 1, shards: 8, threads: 2}\n")

    assert job.threads_per_worker == 2
    assert job.training is not None
    assert job.trainer_config == job.training.model_dump(mode="json")
    assert (job.can_have(4), job.can_have(3)) == (True, False)


def test_config_may_be_set_on_the_command_line() -> None:
    job = load_job(OWN, ["config.epochs=3", "config.nested.warm=false", "config.fresh=0.5"])

    assert job.trainer_config["epochs"] == 3
    assert job.trainer_config["nested"] == {"warm": False, "none": None}
    assert job.trainer_config["fresh"] == 0.5


MISTAKES = {
    "neither": ("name: own\n", "1:1: training: required field is missing; or give a command"),
    "both": ("name: own\ntraining: {epochs: 1}\ncommand: [a]\n", "2:11: training: is for elastic's own trainer; with"),
    "a line": ("name: own\ncommand: python train.py -v\n", "2:10: command: must be a list, for no shell reads it: wri"),
    "no entry": ("name: own\ncommand: []\n", "2:10: command: must have at least one entry"),
    "no program": ('name: own\ncommand: [" ", x]\n', "2:11: command.0: must be a program, such as python"),
    "a number": ("name: own\ncommand: [sleep, 3]\n", "2:18: command.1: must be text, but YAML reads 3 as a number"),
    "misspelt": ("name: own\ncomand: [a]\n", "2:1: comand: unknown field (did you mean 'command'?)"),
    "config alone": (
        "name: own\ntraining: {epochs: 1}\nconfig: {a: 1}\n",
        "3:9: config: is for a program of your own, and there is no command; elastic's own trainer has training",
    ),
    "directory alone": (
        "name: own\ntraining: {epochs: 1}\nworking_dir: src\n",
        "3:14: working_dir: is for a program of your own, and there is no command",
    ),
    "threads alone": (
        "name: own\ntraining: {epochs: 1}\nresources: {threads: 2}\n",
        "3:22: resources.threads: is for a program of your own, and there is no command; elastic's own trainer has",
    ),
    "config is a list": ("name: own\ncommand: [a]\nconfig: [1]\n", "3:9: config: must be a mapping"),
    "not finite": ("name: own\ncommand: [a]\nconfig: {a: {b: [.inf]}}\n", "3:18: config.a.b.0: must be a finite num"),
    "an address": ("name: own\ncommand: [a]\nworking_dir: s3://b\n", "3:14: working_dir: must be a directory where"),
    "no image": (f"name: own\ncommand: [a]\n{EC2}", "2:10: command: your program is not on the instances of this fl"),
}


@pytest.mark.parametrize(("text", "message"), MISTAKES.values(), ids=list(MISTAKES))
def test_one_mistake_has_one_sentence_at_its_place(text: str, message: str) -> None:
    (head,) = heads_of(text)

    assert message in head


def test_all_mistakes_are_told_at_once() -> None:
    heads = heads_of("name: own\ncommand: [a, 1]\nconfig: {a: .nan}\nlimits: {stall: 5}\n")

    assert [head.split(": ")[1] for head in heads] == ["command.1", "config.a", "limits.stall"]


@pytest.mark.parametrize(
    "text",
    [
        "name: own\ncommand: [run, --hub-token=hunter2, 7]\n",
        "name: own\ncommand: [run]\nconfig: {deep: [{api_key: hunter2, a: .inf}]}\n",
        "name: own\ncommand: [run]\nconfig: {db_password: hunter2}\nlabels: 3\n",
    ],
)
def test_what_looks_like_a_secret_is_refused_and_not_printed(text: str) -> None:
    problems = problems_of(text)

    assert any("looks like a secret" in problem.message for problem in problems)
    assert "hunter2" not in "\n".join(map(str, problems))


def test_words_of_machine_learning_are_no_secrets() -> None:
    job = load_job("name: own\ncommand: [run, --max-tokens=7]\nconfig: {tokenizer: bpe, max_tokens: 3, cache_key: x}\n")

    assert job.trainer_config["tokenizer"] == "bpe"


@pytest.mark.parametrize("name", ["pad_token", "eos_token", "mask_token_id", "model_max_token", "per_token_loss"])
def test_a_vocabularys_own_words_are_no_secrets(name: str) -> None:
    option = name.replace("_", "-")

    job = load_job(f"name: own\ncommand: [run, --{option}, <x>]\nconfig: {{tokens: {{{name}: <x>}}}}\n")

    assert job.trainer_config == {"tokens": {name: "<x>"}}


@pytest.mark.parametrize("name", ["hf_token", "append_token", "pad_token_password", "token"])
def test_a_word_of_a_vocabulary_hides_no_secret(name: str) -> None:
    assert ["looks like a secret" in head for head in heads_of(f"name: own\ncommand: [run, --{name}]\n")] == [True]


IMAGE = "command: [run]\nresources: {image: mine}\n"


def test_in_a_container_the_program_runs_in_a_directory_of_the_image() -> None:
    (head,) = heads_of(f"name: own\nworking_dir: src\n{IMAGE}")

    assert "2:14: working_dir: must be a path of the image from its root, such as /app" in head
    assert load_job(f"name: own\nworking_dir: /app\n{IMAGE}").working_dir == "/app"


@pytest.mark.parametrize("place", ["/", "//", "/tmp/", "/data/../proc", "/elastic-run"])
def test_what_a_container_has_of_its_own_is_not_shown_to_it(place: str) -> None:
    heads = heads_of(f"name: own\nconfig: {{data_dir: {place}, folders: {{voices: {place}}}}}\n{IMAGE}")
    trainers = heads_of(f"name: own\ntraining: {{steps: 1, data_dir: {place}}}\nresources: {{image: mine}}\n")

    assert [head.split(": ")[1] for head in heads + trainers] == [
        "config.data_dir", "config.folders.voices", "training.data_dir",
    ]  # fmt: skip
    assert all("cannot be shown to a container, which has a /" in head for head in heads)


def test_what_lies_within_and_what_is_no_path_from_the_root_may_be_shown() -> None:
    config = "{data_dir: /tmp/data, folders: {voices: /data, more: s3://b/x, size: 3}, model: {weights: none}}"

    assert load_job(f"name: own\nconfig: {config}\n{IMAGE}").trainer_config["data_dir"] == "/tmp/data"


def test_it_is_described_as_a_person_would_type_it() -> None:
    assert described_command(("/venv/bin/python", "train.py", "two words")) == "python train.py 'two words'"


def test_a_long_program_on_the_command_line_is_described_on_one_line_and_cut() -> None:
    described = described_command(("python", "-c", "import this\n\n" * 50))

    assert described.startswith("python -c 'import this import this")
    assert described.endswith("…")
    assert (len(described), "\n" in described) == (100, False)
