#!/usr/bin/env bash
# ferrio's own tests on two Pythons beside the default one: 3.13 if the machine has it, and 3.15 from Debian sid (see
# ci/pythons.sh). Those between are left to CPython's own tests (ci/conformance.sh), and the ecosystem's packages to the
# default Python: not all of them are built for the newest.
set -euo pipefail
cd "$(dirname "$0")/.."

failed=()
check() { # check COMMAND-PREFIX... PYTHON: runs the tests there, remembers a failure and goes on
    local python=${*: -1} prefix=("${@:1:$#-1}") tests
    printf '\n-- %s\n' "$("${prefix[@]}" "$python" -V)"
    tests=("${prefix[@]}" make --silent test-core PROFILE=fast PYTHON="$python")
    "${tests[@]}" && return
    printf '\n-- what has failed, once more\n'
    PYTEST_ADDOPTS=--last-failed "${tests[@]}" || failed+=("$python")
}

# Asked to run, not only found: a version manager may have a launcher for a Python that it does not have.
for python in python3.13 "$(pyenv prefix 3.13 2>/dev/null)/bin/python"; do
    if "$python" -c '' 2>/dev/null; then
        check env "$python"
        break
    fi
done
pythons=${PYTHONS:-build/pythons}
ci/pythons.sh "$pythons" >/dev/null
check "$pythons/enter" python3.15

if ((${#failed[@]})); then
    printf '\nfailed on: %s\n' "${failed[*]}"
    exit 1
fi
