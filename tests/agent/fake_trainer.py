"""A trainer of a few lines that keeps the run directory's contract: what an agent may ask of any other program.

    python fake_trainer.py CONFIG RUN_DIR

It counts. The config says how far and how fast, and what goes wrong: `fail_at` ends it at that step with code 3
or `fail_code` (0: before it has reported any), `stuck_at` has it stand still there, `waits_at` has it wait there for
a file `go` in its run directory, `loads` has it say what it loads until there is that file, `child` has it start a
process of its own, `eat` has it take ever more memory, `talks` has it print every step, `meets` has it reach the first
rank over the network before the first step, `breaks` has it break by a fault of its own,
`laggard` names a rank that waits for the file `go` at its first step and fails then.
"""

import faulthandler
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


class Drain:
    """Whether SIGTERM came, and how often."""

    def __init__(self) -> None:
        self.asked = 0
        signal.signal(signal.SIGTERM, self._hear)

    def _hear(self, _number: int, _frame: object) -> None:
        self.asked += 1


def main() -> int:
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    time.sleep(float(os.environ.get("FAKE_TRAINER_IMPORTS_S", "0")))
    drain = Drain()
    config, run_dir = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    rank = int(os.environ["RANK"])
    (run_dir / f"environ-{rank}.json").write_text(json.dumps({**os.environ, "OWN_PID": str(os.getpid())}))
    if config.get("child"):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (run_dir / f"child-{rank}").write_text(str(child.pid))
    step = resume(run_dir)
    print(f"rank {rank} from step {step}", flush=True)
    if config.get("fail_at") == 0:
        print("out of luck", file=sys.stderr, flush=True)
        return int(config.get("fail_code", 3))
    if config.get("loads"):
        load(run_dir)
    eaten: list[bytearray] = []
    if config.get("meets"):
        meet(rank)
    while step < config["steps"] and not drain.asked:
        time.sleep(config.get("step_s", 0.01))
        step += 1
        eaten.append(bytearray(os.urandom(config.get("eat", 0))))
        report(run_dir, rank, step, config)
        if config.get("breaks"):
            raise ArithmeticError("two and two are five")
        if config.get("talks"):
            print(f"step {step}", flush=True)
        if goes_wrong(run_dir, rank, step, config):
            print("out of luck", file=sys.stderr, flush=True)
            return int(config.get("fail_code", 3))
        if rank == 0 and step % config.get("checkpoint_every", 10) == 0 and step < config["steps"]:
            write(run_dir, step, final=False)
    if rank == 0:
        write(run_dir, step, final=step == config["steps"])
    return 0 if step == config["steps"] else 75


def goes_wrong(run_dir: Path, rank: int, step: int, config: dict[str, Any]) -> bool:
    """Whether it fails at this step; it may never come to know."""
    if step == config.get("stuck_at"):
        stand_still()
    is_laggard = rank == config.get("laggard")
    while (is_laggard or step == config.get("waits_at")) and not (run_dir / "go").exists():
        time.sleep(0.01)
    return is_laggard or step == config.get("fail_at")


def stand_still() -> None:
    while True:
        time.sleep(600)


def meet(rank: int) -> None:
    """Have a line from the first rank, or give every other one."""
    address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    if rank == 0:
        with socket.create_server(("", address[1])) as listener:
            for _ in range(int(os.environ["WORLD_SIZE"]) - 1):
                listener.accept()[0].close()
    else:
        until = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(address, 5).close()
                break
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)
    print("met", flush=True)


def resume(run_dir: Path) -> int:
    state = run_dir / "resume" / "state.json"
    return int(json.loads(state.read_text())["step"]) if state.exists() else 0


def load(run_dir: Path) -> None:
    while not (run_dir / "go").exists():
        with open(run_dir / "progress.jsonl", "a") as log:
            log.write(json.dumps({"activity": "looking at images", "time": "2026-01-02T03:04:05+00:00"}) + "\n")
        time.sleep(0.1)


def report(run_dir: Path, rank: int, step: int, config: dict[str, Any]) -> None:
    if rank == 0:
        with open(run_dir / "progress.jsonl", "a") as log:
            log.write(json.dumps({"step": step, "total_steps": config["steps"]}) + "\n")


def write(run_dir: Path, step: int, *, final: bool) -> None:
    made, place = run_dir / "checkpoints" / ".making", run_dir / "checkpoints" / f"step-{step:012d}"
    if place.exists():
        return
    made.mkdir()
    (made / "state.json").write_text(json.dumps({"step": step}))
    if final:
        (made / "result.json").write_text("{}")
    made.rename(place)


if __name__ == "__main__":
    sys.exit(main())
