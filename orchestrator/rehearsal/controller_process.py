"""The controller of a rehearsal: `elastic daemon` in a process of its own, which can be killed and comes back."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PROGRAM = (sys.executable, "-m", "orchestrator.cli.main")
BACK_AFTER_S = 3.0
"""How long there is no controller when one has ended, as when a service is restarted."""


@dataclass
class ControllerProcess:
    """To be started, killed, and looked after by `turn`."""

    store_url: str
    environ: Mapping[str, str]
    log: Path
    program: Sequence[str] = PROGRAM
    back_after_s: float = BACK_AFTER_S
    monotonic: Callable[[], float] = time.monotonic
    _process: "subprocess.Popen[bytes] | None" = field(default=None)
    _back_at_s: float | None = field(default=None)

    def start(self) -> None:
        """Begin to control the store's jobs."""
        self._back_at_s = None
        command = [*self.program, "--store", self.store_url, "daemon"]
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.environ),
                start_new_session=True,  # Ctrl-C is for the rehearsal, which ends it in order
            )

    def kill(self) -> None:
        """SIGKILL: it can put nothing in order."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def turn(self) -> None:
        """Have it come back when it has been gone for long enough, whatever it died of."""
        if self._process is None or self._process.poll() is None:
            return
        if self._back_at_s is None:
            self._back_at_s = self.monotonic() + self.back_after_s
        elif self.monotonic() >= self._back_at_s:
            self.start()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def close(self) -> None:
        """End it for good."""
        self.kill()
        self._process = None
