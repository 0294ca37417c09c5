"""What an image installs of the dependencies in pyproject.toml, one requirement a line, for `pip install -r`.

    python3 docker/dependencies.py controller
    python3 docker/dependencies.py trainer

torch comes by itself, in a layer of its own: `trainer` has all else that training imports, `controller` has all but
what only training imports. pyproject.toml stays the one list, so that `uv run elastic submit` works with nothing else.
"""

import re
import sys
import tomllib
from pathlib import Path
from typing import Final

PYPROJECT: Final = Path(__file__).resolve().parents[1] / "pyproject.toml"

TORCH: Final = {"torch", "torchvision"}
ONLY_TRAINING: Final = {"pillow", "scikit-learn"}
ONLY_ORCHESTRATING: Final = {"boto3", "docker", "greenlet", "nvidia-ml-py", "rich", "starlette", "typer", "uvicorn"}

WITHOUT: Final = {"controller": TORCH | ONLY_TRAINING, "trainer": TORCH | ONLY_ORCHESTRATING}
"""By image: what it does without."""


def requirements(image: str, pyproject: Path = PYPROJECT) -> list[str]:
    """The requirements of an image. Raises ValueError when a name that it does without is no dependency any more."""
    listed = tomllib.loads(pyproject.read_text())["project"]["dependencies"]
    by_name = {_name(requirement): requirement for requirement in listed}
    if unknown := WITHOUT[image] - by_name.keys():
        raise ValueError(f"{', '.join(sorted(unknown))}: not among the dependencies in {pyproject}")
    return [requirement for name, requirement in by_name.items() if name not in WITHOUT[image]]


def _name(requirement: str) -> str:
    """Of `scikit-learn>=1.5`: scikit-learn, as package indexes compare names."""
    (name,) = re.findall(r"^[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in WITHOUT:
        sys.exit(f"usage: dependencies.py {'|'.join(WITHOUT)}")
    print("\n".join(requirements(sys.argv[1])))
