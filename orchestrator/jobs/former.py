"""What is kept of a job that was removed: the number of its last generation, from which another of its name goes on.

Instances are named after generations, and the name of an instance is the token of its launch: a fleet that has heard it
once launches nothing for it again. So no generation of one name may ever come twice.
"""

from pydantic import BaseModel, ConfigDict, ValidationError

from orchestrator.jobs import layout
from orchestrator.store.protocol import Store


class FormerJob(BaseModel):
    """The jobs of one name that were removed."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    last_generation: int


def former_generation(store: Store, job: str) -> int:
    """The last generation of those that were removed; 0: there was none."""
    found = store.get(layout.former_key(job))
    if found is None:
        return 0
    try:
        return FormerJob.model_validate_json(found.body).last_generation
    except ValidationError:
        return 0  # altered by hand: at worst an instance does not come up, and another is tried


def remember_generation(store: Store, job: str, last_generation: int) -> None:
    """Keep the number; a lower one than is kept already changes nothing."""
    if last_generation > former_generation(store, job):
        store.put(layout.former_key(job), FormerJob(last_generation=last_generation).model_dump_json().encode())
