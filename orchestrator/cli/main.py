"""The console script: runs a command and turns whatever comes of it into an exit code and at most one message.

The codes are in `orchestrator.cli.exit_codes` and, for errors, with the errors themselves.
"""

import gc
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn

import typer
from typer.main import get_command

from orchestrator.cli.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PIPE_CLOSED
from orchestrator.cli.prose import complain, say
from orchestrator.errors import ElasticError

STDOUT_FD = 1
GARBAGE_AFTER = 100_000
"""So many new objects, in place of 700, before garbage is looked for: what a command imports is none."""


def main() -> None:
    """Run `elastic` with this process's arguments."""
    gc.set_threshold(GARBAGE_AFTER)
    signal.signal(signal.SIGTERM, _leave)
    code = run(sys.argv[1:])
    gc.freeze()  # to look for garbage once more at the very end would take a seventh of the time of a short command
    sys.exit(code)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    """End by way of every `finally`: a hidden cursor comes back, a half download goes."""
    raise SystemExit(128 + number)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    try:
        from orchestrator.cli.app import app_for

        code = get_command(app_for(arguments)).main(list(arguments), prog_name="elastic", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except ElasticError as error:
        _explain(error)
        return error.exit_code
    except typer.Abort:
        say("Nothing was done.")
        return EXIT_FAILED
    except KeyboardInterrupt:  # before or after the command itself, which Typer watches over
        return EXIT_INTERRUPTED
    except typer.TyperException as error:
        return _complain_of_usage(error)
    except (BrokenPipeError, SystemExit) as error:
        return _closed(error)
    except Exception:  # noqa: BLE001 - the last resort: a fault of ours must not look like one of the user's
        return _confess()


def _explain(error: ElasticError) -> None:
    """One message. Mistakes in a file begin with its name, line and column, so that editors can jump to them."""
    from orchestrator.spec.problems import SpecError

    if isinstance(error, SpecError):
        say(str(error))
    else:
        complain(str(error))


def _complain_of_usage(error: typer.TyperException) -> int:
    """One line for a command that cannot be parsed, naming the help that would tell."""
    context = getattr(error, "ctx", None)
    help_command = f"{context.command_path} --help" if context else "elastic --help"
    message = error.format_message().replace("Value error, ", "")  # pydantic's word, of no use to a person
    stop = "" if message.endswith((".", "?", "!")) else "."
    complain(f"{message}{stop} See: {help_command}")
    return error.exit_code


def _closed(error: BaseException) -> int:
    """The reader of stdout went away. Typer and Rich turn that into SystemExit(1); nothing else here raises it so."""
    if isinstance(error, SystemExit) and error.code != 1:
        return error.code if isinstance(error.code, int) else EXIT_FAILED
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), STDOUT_FD)  # the interpreter's own last flush must not complain
    return EXIT_PIPE_CLOSED


def _confess() -> int:
    """Say that elastic is at fault, and keep the traceback where it can be sent from."""
    if os.environ.get("ELASTIC_DEBUG") == "1":
        traceback.print_exc()
        return EXIT_FAILED
    summary = traceback.format_exc(limit=0).strip().splitlines()[-1]
    try:
        where = f"the details are in {_write_traceback()}"
    except OSError as error:
        where = f"the details could not be written ({error}); run it again with ELASTIC_DEBUG=1"
    complain(f"this is a fault of elastic, not yours: {summary}; {where}")
    return EXIT_FAILED


def _write_traceback() -> Path:
    import platformdirs

    directory = Path(platformdirs.user_log_dir("elastic"))
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"fault-{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{os.getpid()}.log"
    path.write_text(f"elastic {' '.join(sys.argv[1:])}\n\n{traceback.format_exc()}", encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
