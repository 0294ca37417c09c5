"""The controller of a rehearsal is the real one: it leads, is killed, and comes back."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.rehearsal.controller_process import ControllerProcess
from orchestrator.store import open_store
from orchestrator.store.lease import read_lease
from tests.support.waiting import wait_until


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[ControllerProcess]:
    store_url = f"file://{tmp_path / 'store'}"
    environ = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    controller = ControllerProcess(store_url, environ, tmp_path / "controller.log", back_after_s=0.2)
    controller.start()
    yield controller
    controller.close()


def test_it_leads_is_killed_and_leads_again(controller: ControllerProcess) -> None:
    store = open_store(controller.store_url, os.environ)

    def epoch() -> int:
        lease = read_lease(store)
        return lease.epoch if lease else 0

    wait_until(lambda: epoch() == 1, "it leads")
    controller.turn()
    assert controller.alive
    controller.kill()
    assert not controller.alive
    controller.turn()
    assert not controller.alive  # not yet

    def back() -> bool:
        controller.turn()
        return epoch() == 2

    wait_until(back, "another leads")
    controller.close()
    controller.turn()
    assert not controller.alive
