#!/usr/bin/env bash
# The stubs say what the package does (stubtest compares them with it), and programs can rely on them (pyright, mypy).
# `make types` calls it with the pinned checkers in front of PATH and ferrio built beside them.
set -euo pipefail
cd "$(dirname "$0")/.."

echo "-- stubtest: the stubs against the running package"
# From another directory, so that the installed package is the one that is looked at.
here=$PWD
(cd "${TMPDIR:-/tmp}" && stubtest ferrio --concise --mypy-config-file "$here/pyproject.toml" \
    --ignore-unused-allowlist --allowlist "$here/ci/stubtest-allowlist.txt")

echo "-- pyright and mypy: the stubs, and a program that uses them"
basedpyright --project ci/pyright.json
mypy --strict tests/types
