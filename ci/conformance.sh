#!/usr/bin/env bash
# CPython's asyncio tests on ferrio, on every Python that ferrio supports and this machine has, and on 3.14 and 3.15 from Debian sid.
# Twice each: the loop alone, and with ferrio's queues, locks, streams, gather, … installed (--native); what fails is run once more,
# alone. If there are options, once, with these; they are those of tests/conformance/run.py.
set -euo pipefail
cd "$(dirname "$0")/.."

failed=()
conformance() { # conformance COMMAND-PREFIX... PYTHON: build, run, remember a failure and go on
    local python=${*: -1} prefix=("${@:1:$#-1}") options
    for options in "${runs[@]}"; do
        echo "== $("${prefix[@]}" "$python" -V) $options"
        "${prefix[@]}" make --silent conformance PROFILE="${PROFILE:-fast}" PYTHON="$python" OPTIONS="$options" || failed+=("$python $options")
    done
}
runs=(--rerun "--native --rerun")
if (($#)); then runs=("$*"); fi

for version in 3.11 3.12 3.13; do
    # Asked to run, not only found: a version manager may have a launcher for a Python that it does not have.
    for python in "python$version" "$(pyenv prefix "$version" 2>/dev/null)/bin/python"; do
        if "$python" -c 'import test.test_asyncio' 2>/dev/null; then
            conformance env "$python"
            break
        fi
    done
done

pythons=${PYTHONS:-build/pythons}
ci/pythons.sh "$pythons" >/dev/null
for version in 3.14 3.15; do
    conformance "$pythons/enter" "python$version"
done

[[ ${#failed[@]} == 0 ]] || { printf 'failed on: %s\n' "${failed[@]}"; exit 1; }
