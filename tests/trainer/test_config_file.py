"""What is wrong with the file of a trainer that runs alone: one message for each mistake, as job.yaml's are told."""

import json
from pathlib import Path
from typing import Any

import pytest

from trainer.config_file import load_config
from trainer.errors import ConfigError


def refusal(tmp_path: Path, text: str, name: str = "config.json") -> str:
    """What is said of a file, without the directory that it is in."""
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        load_config(tmp_path / name)
    return str(refused.value).removeprefix(f"{tmp_path}/")


JSON_MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "a name is misspelt": ({"model": {"nam": "x"}}, "model.nam: unknown field (did you mean 'name'?)"),
    "a field is of a section": ({"lr": 0.1}, "lr: unknown field (did you mean 'optimizer.lr'?)"),
    "none of three": ({"augmentation": {"flip": 1}}, "augmentation.flip: must be true or false or 'auto'"),
    "yes": (
        {"augmentation": {"flip": "yes"}},
        "augmentation.flip: must be true or false or 'auto'; write true without quotes",
    ),
    "quoted": (
        {"optimizer": {"nesterov": "true"}},
        "optimizer.nesterov: must be true or false; write true without quotes",
    ),
    "a word is misspelt": (
        {"loading": {"workers": "atuo"}},
        "loading.workers: no such value 'atuo' (did you mean 'auto'?)",
    ),
    "out of bounds": ({"loading": {"workers": -1}}, "loading.workers: must be at least 0 or 'auto'"),
    "a section is none": ({"optimizer": 3}, 'optimizer: must be an object of fields, such as {"name": value}'),
    "a list is none": (
        {"schedule": {"milestones": 0.5}},
        "schedule.milestones: must be a list, such as [value, value]",
    ),
    "text is a number": ({"data_dir": 3}, 'data_dir: must be text; write it in quotes: "3"'),
    "text is an object": ({"data_dir": {}}, "data_dir: must be text, not an object"),
    "no value": ({"schedule": None}, "schedule: has no value"),
    "half a character": ({"data_dir": "\ud800"}, "data_dir: has an escape that is no character"),
    "values that do not fit": ({"epochs": 1}, "steps: epochs is given too; keep one of the two"),
}


@pytest.mark.parametrize(("content", "says"), JSON_MISTAKES.values(), ids=list(JSON_MISTAKES))
def test_one_mistake_has_one_message(tmp_path: Path, content: dict[str, Any], says: str) -> None:
    assert refusal(tmp_path, json.dumps({"steps": 1} | content)) == f"config.json: {says}"


def test_all_mistakes_are_told(tmp_path: Path) -> None:
    said = refusal(tmp_path, json.dumps({"stepz": 1, "batch": 1.5}))
    assert said == "config.json: batch: must be a whole number; stepz: unknown field (did you mean 'steps'?)"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("optimizer: {nesterov: yes}", "optimizer.nesterov: must be true or false; YAML 1.2 reads yes as text, write"),
        ("data_dir: 2020-01-01", "data_dir: must be text, but YAML reads 2020-01-01 as a date; quote it: '2020-01-01'"),
        ("seed: 2020-13-45", "a number or date in it cannot be read; correct it, or quote it if it is text"),
        ("compile: !!bool maybe", "a number or date in it cannot be read"),
        (f"seed: {'9' * 5000}", "a number or date in it cannot be read"),
        (f"loading: {{workers: 0x{'f' * 5000}}}", "a number in it has too many digits to be read"),
        ("null: 2", "a field's name must be text"),
        (f"seed: {'[' * 50_000}", "nested too deeply to be the training section of a job"),
    ],
)
def test_yaml_is_told_in_the_words_of_yaml(tmp_path: Path, text: str, says: str) -> None:
    assert refusal(tmp_path, text, "config.yaml").startswith(f"config.yaml: {says}")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"name": "a", "training": {"steps": 1}}', "config.json"),
        ("name: a\ntraining:\n  steps: 1\n", "config.yaml"),
    ],
)
def test_a_whole_job_is_told_as_such(tmp_path: Path, text: str, name: str) -> None:
    assert refusal(tmp_path, text, name) == (
        f"{name}: this is a whole job, and the trainer wants its training section alone; "
        "write what is under training into a file of its own, .json, .yaml or .yml"
    )


def test_a_field_that_is_given_twice_is_named(tmp_path: Path) -> None:
    text = '{"steps": 1, "optimizer": {"lr": 1.0, "lr": 2.0, "lr": 3.0}, "steps": 1}'
    assert refusal(tmp_path, text) == (
        "config.json: optimizer.lr: given more than once; keep one; steps: given more than once; keep one"
    )


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_what_is_nested_too_deeply_is_told_in_a_sentence(tmp_path: Path, text: str) -> None:
    assert refusal(tmp_path, text) == "config.json: nested too deeply to be the training section of a job"


def test_a_number_with_too_many_digits_is_told_in_a_sentence(tmp_path: Path) -> None:
    assert (
        refusal(tmp_path, f'{{"seed": {"9" * 5000}}}') == "config.json: a number in it has too many digits to be read"
    )
    assert refusal(tmp_path, f'{{"steps": 1, "seed": {"9" * 4000}}}').startswith("config.json: seed: must be at most")


def test_a_terminal_obeys_nothing_of_it(tmp_path: Path) -> None:
    said = refusal(tmp_path, '{"steps": 1, "\\u001b[31m\\nx": 1}')
    assert said.isprintable()
    assert " [31m x: unknown field" in said


def test_the_mark_that_some_editors_put_first_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('\ufeff{"steps": 1}', encoding="utf-8")
    assert load_config(tmp_path / "config.json").steps == 1
