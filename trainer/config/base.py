"""What every section of a configuration shares: strictness, and how values that do not fit together are told."""

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError


class Strict(BaseModel):
    """A section of job.yaml: unknown fields are refused, nothing is converted silently, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Misfit(NamedTuple):
    """Values that are fine alone and not together.

    `fields` names every field that takes part, by its path from the model that complains; the first is the one to
    blame, where an editor should put its mark.
    """

    fields: tuple[tuple[str | int, ...], ...]
    message: str


def refuse(misfits: Sequence[Misfit]) -> None:
    """Raise all misfits of a model as one pydantic error, if any; `orchestrator.spec.load` takes them apart again."""
    if misfits:
        text = "; ".join(misfit.message for misfit in misfits)
        raise PydanticCustomError("misfits", "{text}", {"text": text, "misfits": list(misfits)})


def explain(error: ValidationError) -> list[str]:
    """Each problem of a refused configuration in a line of its own, for those who have no file and line to point at."""
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        where = tuple(problem["loc"])
        misfits = problem["ctx"]["misfits"] if problem["type"] == "misfits" else [Misfit(((),), problem["msg"])]
        for misfit in misfits:
            path = ".".join(map(str, where + misfit.fields[0]))
            lines.append(f"{path}: {misfit.message}" if path else misfit.message)
    return lines
