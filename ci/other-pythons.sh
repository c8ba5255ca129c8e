#!/usr/bin/env bash
# ferrio's own tests on the Pythons beside the default one: those of 3.11 to 3.13 that the machine has, and 3.14 and 3.15
# from Debian sid (see ci/pythons.sh). The ecosystem's packages are left to the default Python: not all of them are built
# for the newest.
set -euo pipefail
cd "$(dirname "$0")/.."

default=$("${PYTHON:-python3}" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
failed=()
check() { # check VERSION COMMAND...: runs the tests there, remembers a failure and goes on
    local version=$1
    shift
    [[ $version == "$default" ]] && return
    printf '\n-- Python %s\n' "$version"
    "$@" make --silent test-core PROFILE=fast PYTHON="python$version" || failed+=("$version")
}

for version in 3.11 3.12 3.13; do
    # A version manager may have a launcher for a Python that it does not have.
    if "python$version" -c '' 2>/dev/null; then check "$version" env; fi
done
pythons=${PYTHONS:-build/pythons}
ci/pythons.sh "$pythons" >/dev/null
for version in 3.14 3.15; do check "$version" "$pythons/enter"; done

if ((${#failed[@]})); then
    printf '\nfailed on Python: %s\n' "${failed[*]}"
    exit 1
fi
