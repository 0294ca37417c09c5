#!/usr/bin/env bash
# A base for the images where no registry can be reached: Debian with Python, as a tar for `docker import`.
#
#   docker/base.sh base.tar && docker import base.tar elastic/base:local
#   docker build --build-arg BASE=elastic/base:local ...
#
# Needs mmdebstrap and root, and Debian's mirror as /etc/apt or the proxies of the environment lead to it.
set -euo pipefail

readonly RELEASE=bookworm PACKAGES=python3,python3-venv,ca-certificates

[[ $# -eq 1 ]] || { echo "usage: docker/base.sh OUTPUT.tar" >&2; exit 2; }
# Nobody reads manuals in a container, and nothing in it installs packages.
mmdebstrap --quiet --variant=apt --include="$PACKAGES" \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    "$RELEASE" "$1"
