"""What a list reads of a job.yaml is what the whole of it says."""

from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import BaseModel

from orchestrator.spec.load import load_job
from orchestrator.spec.outline import SpecOutline
from tests.spec.test_examples import EXAMPLES

JOBS = {file.relative_to(EXAMPLES).as_posix(): load_job(file) for file in sorted(EXAMPLES.rglob("*.yaml"))} | {
    "supervised": load_job(EXAMPLES / "digits.yaml", ["training.method=supervised", "limits.max_cost=3.5"]),
    "labelled": load_job(
        "name: a\ntraining: {epochs: 1}\nlabels: {team: vision}\nresources: {ladder: [{workers: 2}]}\n"
    ),
}


@pytest.mark.parametrize("name", JOBS)
def test_every_part_of_an_outline_says_the_same_as_the_whole(name: str) -> None:
    spec = JOBS[name]
    differ(SpecOutline.model_validate_json(spec.model_dump_json()), spec, name)


def differ(outline: Any, whole: Any, where: str) -> None:
    """Fail where they do."""
    if isinstance(outline, BaseModel):
        derived = [name for name, value in vars(type(outline)).items() if isinstance(value, property)]
        for name in (*type(outline).model_fields, *derived):
            differ(getattr(outline, name), getattr(whole, name), f"{where}.{name}")
    elif isinstance(outline, Sequence) and not isinstance(outline, str):
        assert len(outline) == len(whole), where
        for number, pair in enumerate(zip(outline, whole, strict=True)):
            differ(*pair, f"{where}[{number}]")
    else:
        assert outline == whole, where


def test_the_comparison_would_show_a_difference() -> None:
    spec = JOBS["digits.yaml"]
    told = spec.model_dump(mode="json")
    told["resources"]["ladder"][1]["workers"] = 3
    with pytest.raises(AssertionError, match=r"x\.resources\.ladder\[1\]\.workers"):
        differ(SpecOutline.model_validate(told), spec, "x")
