"""What a person may want to do next with a job."""

from orchestrator.jobs.phases import JobPhase
from orchestrator.jobs.status import JobStatus


def next_steps(status: JobStatus, *, trained: bool = True) -> list[tuple[str, str]]:
    """What to type next, and what it is good for; `trained`: by elastic's own trainer."""
    name = status.name
    story = (f"elastic events {name}", "what happened and why")
    fetch = (f"elastic fetch {name}", f"{'model, metrics' if trained else 'last checkpoint'} and config into ./{name}")
    match status.phase:
        case JobPhase.SUCCEEDED:
            return [fetch, story]
        case JobPhase.FAILED:
            why = (f"elastic explain {name}", "each decision, and why nothing else was done")
            return [(f"elastic logs {name}", "all that the first worker printed"), why]
        case JobPhase.CANCELLED:
            return [fetch, story] if status.checkpoint else [story]
        case _:
            return [(f"elastic follow {name}", "watch it"), (f"elastic cancel {name}", "end it")]
