#!/usr/bin/env bash
# Installs the browser that the tests of `ferrio explain --page` drive. Needs root on a Debian.
# Nothing is done where it is there already.
set -euo pipefail
if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --yes --no-install-recommends chromium chromium-driver fonts-dejavu-core
