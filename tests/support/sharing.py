"""How two processes share the suite: a module stays together, for its tests share fixtures, and so do some folders.

Survival's tests are whole systems with bounds on their time: they run one after the other. Those of containers share an
engine and its images, which take a while to build.
"""

from xdist.scheduler import LoadScopeScheduling

SURVIVAL = "tests/survival"
CONTAINERS = "tests/containers"
_OF_CONTAINERS = (f"{CONTAINERS}/", "tests/docker/", "tests/rehearsal/test_containers.py")


def share_of(nodeid: str) -> str:
    """The name of what a test belongs to and is not parted from."""
    module = nodeid.split("::", 1)[0]
    if module.startswith(_OF_CONTAINERS):
        return CONTAINERS
    return SURVIVAL if module.startswith(f"{SURVIVAL}/") else module


class ByModule(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Gives each process one share after the other, in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return share_of(nodeid)
