"""Commands of a cloud instance that do on this machine, for one machine of the room, what they do there.

They come first on the PATH of its user-data. `shutdown` leaves a file that the machine room looks for; a timer of
systemd's is a process that sleeps, so it outlives whoever set it, and not the machine.
"""

import os
import sys
from pathlib import Path

SHUTDOWN_FILE = "shutdown-asked"

_SHUTDOWN = """#!/bin/bash
# The machine room ends the machine when it sees the file.
touch "{machine}/{shutdown_file}"
"""

_SYSTEMD_RUN = """#!/bin/bash
# Options are taken one by one; what is left is the command. Without a time it is a service that starts at once.
delay_s=0
while [[ ${{1:-}} == -* ]]; do
    case $1 in
        --on-active=*|--on-boot=*) delay_s=${{1#*=}} ;;
        --) shift; break ;;
        -p|-u|-E|--property|--unit|--setenv|--uid|--description) shift ;;
    esac
    shift
done
case $delay_s in
    *min|*m) delay_s=$(( ${{delay_s%%m*}} * 60 )) ;;
    *h) delay_s=$(( ${{delay_s%h}} * 3600 )) ;;
    *s) delay_s=${{delay_s%s}} ;;
esac
setsid bash -c 'sleep "$1"; shift; exec "$@"' timer "$delay_s" "$@" </dev/null >>"{machine}/timers.log" 2>&1 &
"""

_AWS = """#!{python}
import sys
from pathlib import Path
from urllib.parse import urlsplit

import boto3

words = [word for word in sys.argv[1:] if not word.startswith("-")]
if words[:2] != ["s3", "cp"] or not words[2].startswith("s3://"):
    sys.exit(f"aws: this machine knows only 's3 cp s3://BUCKET/KEY FILE', not {{' '.join(sys.argv[1:])}}")
source, target = urlsplit(words[2]), Path(words[3])
if target.is_dir():
    target = target / Path(source.path).name
boto3.client("s3").download_file(source.netloc, source.path.lstrip("/"), str(target))
"""

SHIMS = {
    "shutdown": _SHUTDOWN,
    "poweroff": _SHUTDOWN,
    "halt": _SHUTDOWN,
    "systemd-run": _SYSTEMD_RUN,
    "aws": _AWS,
}


def write_shims(machine: Path) -> Path:
    """Write a machine's commands below its directory; gives theirs."""
    directory = machine / "shims"
    directory.mkdir(parents=True)
    for name, text in SHIMS.items():
        path = directory / name
        path.write_text(text.format(machine=machine, shutdown_file=SHUTDOWN_FILE, python=sys.executable))
        os.chmod(path, 0o755)
    return directory
