"""The launcher's process: torchrun with fixed ranks, kept warm.

Importing torch takes seconds, so the agent starts this before there is work; it waits for one line of JSON on
standard input, runs the workers, and ends with 0 (finished), 75 (drained) or 1 (failed, with the ranks' exit codes in
`exit.json`). Ranks are fixed and restarts are none: a change of any kind is the next generation (torchrun's own
membership is not used).

    python -m orchestrator.agent.torchrun WARM_MARK [PROGRAM]

PROGRAM is a package whose `__main__` has `warm_up()`, which imports what it needs, and `main()`, which returns an exit
code. An order for it is carried out by ranks that are forked from here (`orchestrator.agent.forked_rank`), for which
nothing is left to import; any other by new processes.
"""

import contextlib
import ctypes
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from orchestrator.agent.ending import end_at_once
from orchestrator.agent.exits import common_code
from orchestrator.agent.forked_rank import become_rank
from orchestrator.jobs.instances import LOOPBACK


def main() -> int:
    """Import, wait, run."""
    die_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the agent speaks to the ranks themselves
    gc.disable()  # nothing that is imported is garbage, and to look for some takes a sixth of the time
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic.multiprocessing.api").addFilter(_without_traceback)
    warm_mark, *programs = sys.argv[1:]
    for program in programs:
        import_module(f"{program}.__main__").warm_up()
    gc.freeze()
    gc.enable()
    Path(warm_mark).touch()  # the agent looks for it
    line = sys.stdin.readline()
    if not line.strip():
        return 0  # the agent has ended without work for us
    order = json.loads(line)
    os.environ.update(order["env"])
    logs = DefaultLogsSpecs(log_dir=order["log_dir"], redirects=Std.ALL)
    config = LaunchConfig(
        min_nodes=order["nodes"],
        max_nodes=order["nodes"],
        nproc_per_node=order["workers"],
        run_id=order["run_id"],
        role="trainer",
        max_restarts=0,
        monitor_interval=0.1,
        start_method="fork",  # of ranks that run a function; a command is started as ever
        logs_specs=logs,
        **_rendezvous(order),
    )
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    entrypoint: Callable[..., None] | str = become_rank if order["forked"] else sys.executable
    try:
        elastic_launch(config, entrypoint)(*order["program"])
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        Path(order["result"]).write_text(json.dumps({"exit_codes": codes}))
        return common_code(codes.values())
    return 0


def _without_traceback(record: logging.LogRecord) -> bool:
    """That a rank has ended otherwise than by 0 is one line: of where in torch that was seen, torch makes twenty.

    And to print them it imports its compiler, for seconds in which the next generation waits for this one's end.
    """
    record.exc_info = None
    return True


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the agent dies (Linux), so that no worker outlives its agent."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    pr_set_pdeathsig = 1
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _rendezvous(order: dict[str, Any]) -> dict[str, Any]:
    """One node meets over a file, so that nothing listens; several meet at the first node's private address."""
    if order["nodes"] == 1:
        os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
        return {
            "rdzv_backend": "c10d",
            "rdzv_endpoint": order["rendezvous_file"],
            "rdzv_configs": {"store_type": "file"},
            "local_addr": LOOPBACK,
        }
    from orchestrator.agent import fixed_ranks

    fixed_ranks.register()
    return {
        "rdzv_backend": fixed_ranks.BACKEND,
        "rdzv_endpoint": order["rendezvous_endpoint"],
        "rdzv_configs": {"node_rank": order["node_rank"]},
        "local_addr": order["local_address"],
    }


if __name__ == "__main__":
    end_at_once(main())  # to take torch apart would take half a second, and the agent waits for it
