"""Runs a person's own program in place of this process, tied to its launcher.

    python -I -S attached.py LAUNCHER_PID DIRECTORY PROGRAM [ARGUMENT ...]

Elastic's own trainer asks the kernel itself to end it with its launcher; of another program that cannot be asked, so
it is asked here, before the program takes this process over: no rank outlives its agent. DIRECTORY is where the program
works; empty: here. What cannot be started is told in one sentence and exits with 2, which trying again does not mend.

It runs alone, without this package and without site-packages, for each rank pays for its start.
"""

import ctypes
import os
import signal
import sys
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_BAD_INPUT = 2


def main(launcher: int, directory: str, program: list[str]) -> NoReturn:
    """Tie, go there, become the program."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != launcher:  # it ended before the call: nobody will send the signal
            os._exit(1)
    if directory:
        try:
            os.chdir(directory)
        except OSError as error:
            sys.exit(_refusal(f"cannot work in {directory}: {error.strerror}; see working_dir in job.yaml"))
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and a program would inherit that
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(program[0], program)
    except OSError as error:
        sys.exit(_refusal(f"cannot run {program[0]}: {error.strerror}; see command in job.yaml"))


def _refusal(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return _BAD_INPUT


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
