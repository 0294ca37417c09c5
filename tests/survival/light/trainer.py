"""A trainer that costs nothing: `python -m trainer` is this one where its directory leads on PYTHONPATH.

It keeps the run directory's contract and counts; its state after a step is a hash of the state before, so that a step
left out, made twice or taken from elsewhere shows in the result. `LIGHT_LEDGER` names a file to which every process
and every step is added, whatever becomes of both. It makes its steps slowly, and not the last one, until there is the
file `LIGHT_GATE`; then the rest at once. While there is the file `LIGHT_HOLD` it makes none yet. While there is the
file `LIGHT_BUSY` each rank keeps its core busy.

On several machines it is the least that elastic takes for a trainer: only rank 0 reports, and the others never notice
that one of them is gone.
"""

import ctypes
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

STEP_S = 0.03
FINISHED, DRAINED = 0, 75


class Drain:
    """Whether SIGTERM came."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGTERM, self._hear)

    def _hear(self, _number: int, _frame: object) -> None:
        self.asked = True


def digest_after(steps: int) -> str:
    """What an undisturbed run of so many steps ends with."""
    state = ""
    for step in range(1, steps + 1):
        state = _next(state, step)
    return state


def main() -> int:
    drain = Drain()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # dies with its parent
    config, run_dir = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    rank = int(os.environ["RANK"])
    _enter("process", run_dir, rank, os.getpid())
    # What ranks of other machines look for too; a launcher's run is one generation of the job.
    ending = Path(f"{os.environ['LIGHT_LEDGER']}-{os.environ['TORCHELASTIC_RUN_ID']}")
    return _lead(run_dir, int(config["steps"]), drain, ending) if rank == 0 else _follow(ending)


def _lead(run_dir: Path, steps: int, drain: Drain, ending: Path) -> int:
    """Rank 0: it counts, and it alone writes."""
    every_s = float(os.environ["ELASTIC_CHECKPOINT_EVERY_S"])
    step, state = _resume(run_dir)
    while Path(os.environ["LIGHT_HOLD"]).exists() and not drain.asked:
        time.sleep(STEP_S)
    written_at = time.monotonic()
    while step < steps and not drain.asked:
        if not Path(os.environ["LIGHT_GATE"]).exists():
            _pass_time()
            if step == steps - 1:
                continue
        step, state = step + 1, _next(state, step + 1)
        _enter("step", run_dir, 0, step)
        _report(run_dir, {"step": step, "total_steps": steps})
        if step < steps and time.monotonic() - written_at >= every_s:
            _write(run_dir, step, state, final=False)
            written_at = time.monotonic()
    _write(run_dir, step, state, final=step == steps)
    code = FINISHED if step == steps else DRAINED
    made = run_dir / ".code"
    made.write_text(str(code))
    made.rename(ending)
    return code


def _follow(ending: Path) -> int:
    """The other ranks end after rank 0, and as it does."""
    while not ending.exists():
        _pass_time()
    return int(ending.read_text())


def _pass_time() -> None:
    """As long as a step takes."""
    if not Path(os.environ["LIGHT_BUSY"]).exists():
        time.sleep(STEP_S)
        return
    until = time.monotonic() + STEP_S
    while time.monotonic() < until:
        pass


def _resume(run_dir: Path) -> tuple[int, str]:
    path = run_dir / "resume" / "state.json"
    if not path.exists():
        return 0, ""
    found = json.loads(path.read_text())
    if (run_dir / "resume" / "weights").read_bytes() != _weights(found["digest"]):
        sys.exit("the checkpoint that was given to this trainer is damaged")
    return found["step"], found["digest"]


def _next(state: str, step: int) -> str:
    return hashlib.sha256(f"{state} {step}".encode()).hexdigest()


def _weights(state: str) -> bytes:
    """The bulk of a checkpoint, of which every byte is known."""
    return state.encode() * 1024


def _report(run_dir: Path, line: dict[str, Any]) -> None:
    with open(run_dir / "progress.jsonl", "a") as log:
        log.write(json.dumps(line) + "\n")


def _write(run_dir: Path, step: int, state: str, *, final: bool) -> None:
    made, place = run_dir / "checkpoints" / ".making", run_dir / "checkpoints" / f"step-{step:012d}"
    if place.exists():
        return
    made.mkdir()
    (made / "state.json").write_text(json.dumps({"step": step, "digest": state}))
    (made / "weights").write_bytes(_weights(state))
    if final:
        (made / "result.json").write_text(json.dumps({"digest": state}))
    made.rename(place)


def _enter(what: str, run_dir: Path, rank: int, number: int) -> None:
    line = json.dumps({"what": what, "run": str(run_dir), "rank": rank, "number": number})
    with open(os.environ["LIGHT_LEDGER"], "a") as ledger:
        ledger.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
