"""A rank that puts links where the agent works leads it nowhere. A real engine; the agent is who runs the tests."""

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.agent.launcher import Program
from orchestrator.store.local import LocalStore
from tests.containers.contained import Contained

pytestmark = pytest.mark.requires("docker")

LINKS = """
import os, sys
secret, run = sys.argv[1:]
logs = f"{run}/logs/containers/attempt_0/0"
os.makedirs(logs)
for stream in ("stdout", "stderr"):
    os.symlink(secret, f"{logs}/{stream}.log")
made = f"{run}/checkpoints/step-000000000001"
os.mkdir(made)
with open(f"{made}/state", "w") as file:
    file.write("its own")
os.symlink(secret, f"{made}/later")
print("printed in the container", flush=True)
"""


def test_links_of_a_rank_are_not_followed(contain: Callable[..., Contained], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the machine\n")
    contained = contain(program=Program(("-c", LINKS, str(secret), "{run_dir}"), "python3"))
    contained.start({})
    ended = contained.wait()
    assert ended.outcome == "finished", contained.told()
    assert contained.printed(0) == "printed in the container\n"
    assert secret.read_text() == "of the machine\n"
    place = contained.run.checkpoints / "step-000000000001"
    (place / "later").rename(tmp_path / "later")
    (checkpoint,) = contained.run.whole_checkpoints()
    (state,) = checkpoint.files()
    (place / "state").unlink()
    (tmp_path / "later").rename(place / "state")  # as it could while the agent looks
    with pytest.raises(FileNotFoundError):
        state.upload(LocalStore(tmp_path / "store"), "state")
    checkpoint.remove()
    assert not place.exists()
    assert secret.read_text() == "of the machine\n"
