"""A process that pauses is ended by a signal, whatever it does just then."""

import signal
import subprocess
import sys
import time

import pytest

PAUSES = """
import os, signal, time
from orchestrator.signals import EndingSignals
came = []
signals = EndingSignals(lambda: came.append(1))
{storm}
print("ready", flush=True)
while not signals.received or len(came) < {wanted}:
    signals.pause({pause_s})
print("ended", len(came), flush=True)
"""
TWO_THOUSAND = """
signal.signal(signal.SIGALRM, lambda *_: signals._receive(0, None))
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
"""


def paused(pause_s: float, wanted: int = 1, storm: str = "") -> "subprocess.Popen[str]":
    code = PAUSES.format(pause_s=pause_s, wanted=wanted, storm=storm)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_longest_pause(number: signal.Signals) -> None:
    process = paused(600)
    time.sleep(0.1)  # so that it pauses, as a rule: it is ended all the same if it does not yet
    process.send_signal(number)
    assert process.communicate(timeout=20)[0] == "ended 1\n"
    assert process.returncode == 0


def test_signals_that_come_while_another_is_waited_for_hang_nobody() -> None:
    """With the lock of an Event, one in some thousand does."""
    process = paused(0.0002, wanted=2000, storm=TWO_THOUSAND)
    out = process.communicate(timeout=60)[0]
    assert out.startswith("ended 2")
