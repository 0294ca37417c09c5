"""`python -m trainer CONFIG RUN_DIR`: one rank, or the only one."""

import faulthandler
import gc
import os
import signal
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import NoReturn

from trainer.config_file import load_config
from trainer.errors import TrainerError
from trainer.options import parse_options
from trainer.standard_error import tell
from trainer.stop import StopRequest, die_with_parent


def warm_up() -> None:
    """Import what takes seconds. A launcher does it once, and ranks that it forks afterwards have it."""
    import trainer.loop
    import trainer.world  # noqa: F401


def main() -> int:
    """Run the trainer; returns the exit code.

    Signals, options and config come before torch is imported: an early stop is not lost, a mistake is answered at once.
    """
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # whoever ends it for standing still asks first where
    stop = StopRequest().listen()
    try:
        options = parse_options(sys.argv[1:], os.environ)
        if options.die_with_parent:
            die_with_parent()
        config = load_config(options.config_path)

        gc.disable()  # nothing that is imported is garbage, and to look for some takes a sixth of the time
        from trainer.loop import train
        from trainer.world import join_world

        gc.freeze()
        gc.enable()
        world = join_world(os.environ)
        code = train(config, options, world, stop, time.monotonic, lambda: datetime.now(UTC))
        world.leave()
        return code
    except TrainerError as error:
        rank = os.environ.get("RANK")
        where = "trainer" if rank is None else f"trainer, rank {rank}"
        tell(f"{where}: {error}")
        return error.exit_code


def end_at_once(code: int) -> NoReturn:
    """Leave without taking torch apart: whoever waits for this process would wait half a second longer for nothing."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    end_at_once(main())
