#!/usr/bin/env bash
# An instance of elastic: it runs one agent and ends with it, whatever happens. No secret is in here: what it may do are
# the rights of its role.
#
#   instance               once, by cloud-init: arm the last resort, install what is missing, start the agent
#   instance agent         as a unit: run the agent, then shut down, which terminates the instance
#   instance last-resort   every minute, by a timer: shut down when it has lived too long, does not come up, or hangs
set -Eeuo pipefail

# settings

if [[ -n ${ELASTIC_ROOT:-} ]]; then
    # A rehearsal on somebody's machine: nothing outside of this directory is touched, and the instance begins now.
    PER_BOOT=$ELASTIC_ROOT/per-boot
    BEGAN=now
else
    ELASTIC_ROOT=/opt/elastic
    PER_BOOT=/var/lib/cloud/scripts/per-boot
    BEGAN=boot
fi
export HOME=${HOME:-$ELASTIC_ROOT} # neither cloud-init nor systemd gives one
readonly SELF=$ELASTIC_ROOT/instance VENV=$ELASTIC_ROOT/venv WORK=$ELASTIC_ROOT/work
readonly LOOK_EVERY_S=${ELASTIC_LOOK_EVERY_S:-60} BOOT_LIMIT_S=${ELASTIC_BOOT_LIMIT_S:-1200}
# The agent ends itself when it hangs, far sooner; this is for one that cannot even do that, or was never started.
readonly SILENT_LIMIT_S=${ELASTIC_SILENT_LIMIT_S:-900}
# The one that is left of several waits meanwhile for another's boot, which is paid for and takes minutes.
readonly IDLE_EXIT=${ELASTIC_IDLE_EXIT:-540s}
# An instance is paid for from its launch, and the kernel starts somewhat later.
readonly LAUNCH_TAKES_S=30
# What is fetched before there is an elastic: by the store's own keys, if SSM has them, else by the rights of the role.
readonly FETCH='
import json, os, sys
import boto3
from botocore.config import Config

region, parameter, keys = os.environ["AWS_REGION"], os.environ.get("ELASTIC_S3_PARAMETER"), {}
if parameter:
    ssm = boto3.client("ssm", region_name=region)
    known = json.loads(ssm.get_parameter(Name=parameter, WithDecryption=True)["Parameter"]["Value"])
    keys = {"aws_access_key_id": known["access_key_id"], "aws_secret_access_key": known["secret_access_key"]}
endpoint = os.environ.get("AWS_ENDPOINT_URL_S3", ".amazonaws.")
style = "auto" if ".amazonaws." in endpoint else "path"
s3 = boto3.client("s3", region_name=region, config=Config(s3={"addressing_style": style}), **keys)
s3.download_file(*sys.argv[1:])
'
# Set at the end of what has to come to its end, else the instance's is near.
IS_WELL=""

say() { echo "elastic: $*" >&2; }

end() {
    say "$*: shutting down"
    shutdown -h now
}

uptime_s() {
    local since_boot_s
    read -r since_boot_s _ </proc/uptime
    echo "${since_boot_s%.*}"
}

age_s() { echo $(($(uptime_s) - $(<"$ELASTIC_ROOT/born"))); }

# Since the agent's last turn, or since it was started if it has made none.
silent_s() {
    local moved_s
    moved_s=$(cat "$WORK/alive" 2>/dev/null || true)
    echo $(($(uptime_s) - ${moved_s:-$(<"$ELASTIC_ROOT/started")}))
}

fetch_uv() {
    python3 -m pip install --quiet --target "$ELASTIC_ROOT/uv" uv >&2 ||
        curl -fsSL https://astral.sh/uv/install.sh | env UV_UNMANAGED_INSTALL="$ELASTIC_ROOT/uv/bin" sh >&2
    echo "$ELASTIC_ROOT/uv/bin/uv"
}

install_agent() {
    if [[ -e $ELASTIC_ROOT/installed && $(<"$ELASTIC_ROOT/installed") == "$PACKAGE" ]]; then
        return # an AMI may have it, made by this same function
    fi
    local uv wheel=$ELASTIC_ROOT/${PACKAGE##*/} without=$ELASTIC_ROOT/without options=()
    uv=$(command -v uv) || uv=$(fetch_uv)
    "$uv" venv --quiet --allow-existing --python '>=3.11' "$VENV"
    "$uv" pip install --quiet --python "$VENV" boto3
    "$VENV/bin/python" -c "$FETCH" "$BUCKET" "$KEY" "$wheel"
    sha256sum --check --quiet <<<"$PACKAGE_SHA256  $wheel"
    if [[ -n $IMAGE ]]; then
        # The workers' image has what they need, and these are gigabytes: here they are wanted for no Python.
        printf '%s; python_version < "3"\n' torch torchvision scikit-learn >"$without"
        options=(--override "$without")
    fi
    "$uv" pip install --quiet --python "$VENV" "${options[@]}" "$wheel"
    [[ -n $IMAGE ]] || echo "$PACKAGE" >"$ELASTIC_ROOT/installed"
}

boot() {
    trap '[[ -n $IS_WELL ]] || end "the boot has failed"' EXIT
    mkdir -p "$WORK"
    install -m 755 "$0" "$SELF"
    if [[ $BEGAN == boot ]]; then
        echo "-$LAUNCH_TAKES_S"
    else
        uptime_s
    fi >"$ELASTIC_ROOT/born"
    systemd-run --quiet --unit=elastic-last-resort --on-active="${LOOK_EVERY_S}s" --on-unit-active="${LOOK_EVERY_S}s" \
        --timer-property=AccuracySec=1s "$SELF" last-resort
    # A second boot finds no timer and no agent: what cloud-init runs at every boot from the next one on ends it.
    mkdir -p "$PER_BOOT"
    printf '#!/bin/sh\nexec shutdown -h now\n' >"$PER_BOOT/elastic"
    chmod 755 "$PER_BOOT/elastic"

    install_agent
    systemd-run --quiet --unit=elastic-agent --property=ExecStopPost="/usr/bin/env shutdown -h now" \
        --property=OOMPolicy=continue --property=TimeoutStopSec=60 --property=LimitNOFILE=65536 \
        --property=StandardOutput=journal+console --property=StandardError=journal+console "$SELF" agent
    IS_WELL=yes
}

agent() {
    trap 'end "the agent has ended with exit code $?"' EXIT
    local options=(
        --store "$STORE" agent --cloud ec2 --instance "$INSTANCE" --job "$JOB" --workers "$WORKERS" --cores "$CORES"
        --gpus "${ELASTIC_GPUS-all}" --work-dir "$WORK" --idle-exit "$IDLE_EXIT" --age "$(age_s)s"
    )
    [[ $ALLOWANCE_S == none ]] || options+=(--allowance "${ALLOWANCE_S}s")
    [[ -z $IMAGE ]] || options+=(--image "$IMAGE")
    uptime_s >"$ELASTIC_ROOT/started"
    "$VENV/bin/elastic" "${options[@]}"
}

last_resort() {
    trap '[[ -n $IS_WELL ]] || end "the last resort cannot tell how it is"' EXIT
    local lived_s silent_s allowance_s=$ALLOWANCE_S
    lived_s=$(age_s)
    if [[ -e $ELASTIC_ROOT/started ]]; then
        silent_s=$(silent_s)
        ((silent_s <= SILENT_LIMIT_S)) || end "its agent has not moved for $silent_s s"
    elif ((lived_s > BOOT_LIMIT_S)); then
        end "there is no agent after $lived_s s"
    fi
    # The agent writes what a controller has granted since the launch. The next look may be too late by its interval.
    if [[ -e $WORK/allowance ]]; then
        allowance_s=$(<"$WORK/allowance")
    fi
    if [[ $allowance_s != none ]] && ((lived_s + LOOK_EVERY_S > allowance_s)); then
        end "its $allowance_s s are over"
    fi
    IS_WELL=yes
}

case "${1:-boot}" in
    boot) boot ;;
    agent) agent ;;
    last-resort) last_resort ;;
esac
