"""The bell: whoever leaves something for the controller rings, so that an idle one need not list again and again.

It only makes things quick. A ring that is lost, because who left something died before, is made up for by the listing
that a controller makes from time to time anyway.
"""

from pydantic import BaseModel, ConfigDict

from orchestrator.jobs import layout
from orchestrator.store.document import Nonce
from orchestrator.store.protocol import UNCHANGED, Store


class Ring(BaseModel):
    """The last ring."""

    model_config = ConfigDict(frozen=True)

    nonce: str


def ring(store: Store, nonce: Nonce) -> None:
    """Wake the controller. Many may ring, and it does not matter whose ring is the one that stays."""
    store.put(layout.BELL, Ring(nonce=nonce()).model_dump_json().encode())


class Ear:
    """Hears whether the bell was rung since it last listened."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._etag: str | None = None

    def heard(self) -> bool:
        """Whether it was rung since the last call; the first call hears any ring that there ever was."""
        found = self._store.get_if_changed(layout.BELL, self._etag)
        if found is UNCHANGED or found is None:
            return False
        self._etag = found.etag
        return True
