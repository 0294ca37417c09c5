"""One machine of the machine room: the user-data of an instance, run for real, and all that comes of it."""

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.agent.imds import ENDPOINT_VARIABLE
from orchestrator.fleets.engine import EngineError
from orchestrator.fleets.processes import end_marked_processes, marked_processes
from orchestrator.rehearsal.account import LedgerEntry
from orchestrator.rehearsal.containers import end_containers
from orchestrator.rehearsal.imds import Credentials, Identity, MetadataServer
from orchestrator.rehearsal.shims import SHUTDOWN_FILE, shims_of, write_shims

VARIABLE = "ELASTIC_MACHINE"
"""Environment variable that every process of a machine carries: its directory, unique on this one."""
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Machine:
    """A directory, a metadata service and processes; with an engine also containers."""

    entry: LedgerEntry
    directory: Path
    environ: Mapping[str, str]
    """What its processes know besides what every instance knows."""
    metadata: MetadataServer
    engine: Mapping[str, str] | None = None
    """What leads its processes to a Docker engine; None: its workers are processes too."""
    _user_data: "subprocess.Popen[bytes] | None" = field(default=None)

    @classmethod
    def of(
        cls,
        entry: LedgerEntry,
        directory: Path,
        environ: Mapping[str, str],
        credentials: Callable[[], Credentials],
        engine: Mapping[str, str] | None = None,
    ) -> "Machine":
        """The machine of an instance, not yet booted. Its metadata shows what the instance was launched to show."""
        directory.mkdir(parents=True)
        tags = entry.tags if entry.shows_tags else {}
        identity = Identity(entry.id, entry.instance_type, entry.zone, tags=tags)
        metadata = MetadataServer(identity, credentials if entry.has_role else None)
        return cls(entry, directory, environ, metadata, engine)

    def boot(self) -> None:
        """Run its user-data, as cloud-init does: as a program, once, when everything else is there."""
        for name in ("home", "tmp"):
            (self.directory / name).mkdir()
        script = self.directory / "user-data"
        script.write_text(self.entry.user_data)
        os.chmod(script, 0o755)
        environ = {
            **self.environ,
            **(self.engine or {}),
            VARIABLE: str(self.directory),
            "PATH": f"{shims_of(self.directory)}:{SYSTEM_PATH}",
            "HOME": str(self.directory / "home"),
            "TMPDIR": str(self.directory / "tmp"),
            "ELASTIC_ROOT": str(root_of(self.directory)),
            "ELASTIC_GPUS": "",  # its workers are on the CPU, whatever card this machine has
            ENDPOINT_VARIABLE: self.metadata.endpoint,
        }
        write_shims(self.directory, environ)
        with open(self.log, "ab") as log:
            try:
                self._user_data = subprocess.Popen(
                    [script], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ, start_new_session=True
                )
            except OSError as error:  # no program at all: an instance then runs, and does nothing
                log.write(f"user-data cannot be run: {error}\n".encode())

    @property
    def log(self) -> Path:
        """What its user-data has printed."""
        return self.directory / "boot.log"

    @property
    def asks_to_shut_down(self) -> bool:
        """Whether `shutdown` was called on it."""
        return (self.directory / SHUTDOWN_FILE).exists()

    @property
    def is_empty(self) -> bool:
        """Whether no process of it runs."""
        return not marked_processes(str(self.directory), VARIABLE)

    def end(self) -> bool:
        """Cut the power: nothing of it runs any more, and nobody answers for it.

        False: its containers may be left, for their engine does not answer now.
        """
        end_marked_processes(str(self.directory), grace_s=0, variable=VARIABLE)
        if self._user_data is not None:
            self._user_data.wait()
        self.metadata.close()
        try:
            return self.engine is None or end_containers(self.engine, self.directory)
        except EngineError:
            return False


def root_of(machine: Path) -> Path:
    """Where elastic lies on a machine."""
    return machine / "elastic"
