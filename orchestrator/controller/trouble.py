"""Whose trouble an error is: one job's, or everybody's."""

from orchestrator.store.protocol import NotAllowed, StoreDenied, StoreUnreachable


def concerns_all(error: Exception) -> bool:
    """Whether nothing else will fare better now: the store is away, or the credentials are no good at all."""
    return isinstance(error, StoreUnreachable | StoreDenied) and not isinstance(error, NotAllowed)
