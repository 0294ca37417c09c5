"""Commands of a cloud instance that do on this machine, for one machine of the room, what they do there.

They come first on the PATH of its user-data. `shutdown` leaves a file that the machine room looks for; a timer of
systemd's is a process that sleeps, so it outlives whoever set it, and not the machine.
"""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

SHUTDOWN_FILE = "shutdown-asked"

_SHUTDOWN = """#!/bin/bash
# The machine room ends the machine when it sees the file.
touch "{machine}/{shutdown_file}"
"""

_SYSTEMD_RUN = """#!/bin/bash
# Options are taken one by one; what is left is the command. Without a time it is a service that starts at once. As of
# systemd's, its environment is the machine's and what --setenv says, and nothing of who asks for it.
seconds() {{
    case $1 in
        *min|*m) echo $(( ${{1%%m*}} * 60 )) ;;
        *h) echo $(( ${{1%h}} * 3600 )) ;;
        *) echo "${{1%s}}" ;;
    esac
}}
delay_s=0 again_after_s="" at_its_end=""
environment=({environment})
while [[ ${{1:-}} == -* ]]; do
    case $1 in
        --on-active=*|--on-boot=*) delay_s=$(seconds "${{1#*=}}") ;;
        --on-unit-active=*) again_after_s=$(seconds "${{1#*=}}") ;;
        --setenv=*) environment+=("${{1#*=}}") ;;
        --property=ExecStopPost=*) at_its_end=${{1#--property=ExecStopPost=}} ;;
        -E|--setenv) environment+=("$2"); shift ;;
        --) shift; break ;;
        -p|-u|--property|--unit|--uid|--description) shift ;;
    esac
    shift
done
unit='
    delay_s=$1 again_after_s=$2 at_its_end=$3
    shift 3
    sleep "$delay_s"
    while "$@"; [[ -z $at_its_end ]] || bash -c "$at_its_end"; [[ -n $again_after_s ]]; do sleep "$again_after_s"; done
'
exec </dev/null >>"{machine}/services.log" 2>&1
setsid env -i "${{environment[@]}}" bash -c "$unit" unit "$delay_s" "$again_after_s" "$at_its_end" "$@" &
"""

SHIMS = {
    "shutdown": _SHUTDOWN,
    "poweroff": _SHUTDOWN,
    "halt": _SHUTDOWN,
    "systemd-run": _SYSTEMD_RUN,
}


def write_shims(machine: Path, environ: Mapping[str, str]) -> None:
    """Write a machine's commands into its directory of shims; `environ`: what every process there has."""
    directory = shims_of(machine)
    directory.mkdir(parents=True)
    values = {
        "machine": machine,
        "shutdown_file": SHUTDOWN_FILE,
        "environment": " ".join(shlex.quote(f"{name}={value}") for name, value in environ.items()),
    }
    for name, text in SHIMS.items():
        path = directory / name
        path.write_text(text.format(**values))
        os.chmod(path, 0o755)


def shims_of(machine: Path) -> Path:
    """Where a machine's commands lie."""
    return machine / "shims"
