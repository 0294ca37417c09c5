"""What a rehearsal takes beyond the package itself: its extra `rehearse`."""

from importlib.util import find_spec

from orchestrator.errors import ElasticError
from orchestrator.rehearsal.serving import executable

INSTALL = "pip install 'elastic[rehearse]'"
MODULES = ("moto", "flask", "flask_cors")
COMMANDS = {"weed": "SeaweedFS"}


class MissingParts(ElasticError):
    """Something that plays the cloud here is not installed."""


def require_parts() -> None:
    """Raise MissingParts unless everything that plays the cloud is here."""
    missing = [name for name in MODULES if find_spec(name) is None]
    missing += [words for command, words in COMMANDS.items() if executable(command) is None]
    if missing:
        raise MissingParts(
            f"A rehearsal plays the cloud with parts that are not installed ({', '.join(missing)}): {INSTALL}"
        )


def require_command(name: str) -> str:
    """Where a command of the extra is. Raises MissingParts."""
    found = executable(name)
    if found is None:
        raise MissingParts(f"There is no {name} command ({COMMANDS[name]}), which a rehearsal takes: {INSTALL}")
    return found
