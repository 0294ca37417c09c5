"""The meeting of several instances: ranks as assigned, and one store that listens on the first one's address alone.

torch's own static rendezvous fixes the ranks too, but its store listens on every interface of the machine. This one
hands torch a socket that is bound already. Imported only where torch is (see `torchrun`).
"""

import socket
from datetime import timedelta

from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]  # public, but not said so in its types
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousInfo, RendezvousParameters
from torch.distributed.elastic.rendezvous.api import RendezvousStoreInfo, rendezvous_handler_registry

BACKEND = "fixed-ranks"
JOIN_TIMEOUT = timedelta(minutes=5)
"""How long the instances wait for each other: they are ready when they are told to start."""


class FixedRanks(RendezvousHandler):
    """One meeting of a fixed number of nodes; there is no second one, for a change is the next generation."""

    def __init__(self, address: str, port: int, node_rank: int, nodes: int, run_id: str) -> None:
        self._address, self._port = address, port
        self._node_rank, self._nodes = node_rank, nodes
        self._run_id = run_id
        self._closed = False
        self._listener: socket.socket | None = None

    def get_backend(self) -> str:
        return BACKEND

    @property
    def use_agent_store(self) -> bool:
        """The ranks use the same store, so that none of them opens another."""
        return True

    def next_rendezvous(self) -> RendezvousInfo:
        """Open the store on the first node, join it on the others."""
        leads = self._node_rank == 0
        if leads:
            self._listener = socket.create_server((self._address, self._port))
        store = TCPStore(
            self._address,
            self._port,
            is_master=leads,
            timeout=JOIN_TIMEOUT,
            wait_for_workers=False,
            master_listen_fd=self._listener.detach() if self._listener else None,
        )
        info = RendezvousStoreInfo(self._address, self._port)
        return RendezvousInfo(PrefixStore(self._run_id, store), self._node_rank, self._nodes, info)

    def is_closed(self) -> bool:
        return self._closed

    def set_closed(self) -> None:
        self._closed = True

    def num_nodes_waiting(self) -> int:
        """None ever: nobody joins late."""
        return 0

    def get_run_id(self) -> str:
        return self._run_id

    def shutdown(self) -> bool:
        return True


def _create(parameters: RendezvousParameters) -> FixedRanks:
    address, port = parameters.endpoint.rsplit(":", 1)
    node_rank = int(parameters.config["node_rank"])
    return FixedRanks(address, int(port), node_rank, parameters.min_nodes, parameters.run_id)


def register() -> None:
    """Make the backend known to torchrun."""
    rendezvous_handler_registry.register(BACKEND, _create)
