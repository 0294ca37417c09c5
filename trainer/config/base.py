"""What every section of a configuration shares: strictness, and how values that do not fit together are told."""

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

FieldPath = tuple[str | int, ...]
"""Where a value sits: ('schedule', 'milestones', 0)."""


class Strict(BaseModel):
    """A section of job.yaml: unknown fields are refused, nothing is converted silently, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Misfit(NamedTuple):
    """Values that are fine alone and not together.

    `fields` names every field that takes part, by its path from the model that complains; the first is the one to
    blame, where an editor should put its mark.
    """

    fields: tuple[FieldPath, ...]
    message: str


def refuse(misfits: Sequence[Misfit]) -> None:
    """Raise all misfits of a model as one pydantic error, if any; `trainer.config.explain` takes them apart again."""
    if misfits:
        text = "; ".join(misfit.message for misfit in misfits)
        raise PydanticCustomError("misfits", "{text}", {"text": text, "misfits": list(misfits)})
