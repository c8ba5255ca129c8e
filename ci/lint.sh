#!/usr/bin/env bash
# Formatting and lints, of Rust and of Python. `make lint` calls it with the pinned ruff in front of PATH.
#
#   ci/lint.sh            complains
#   ci/lint.sh --fix      repairs what can be repaired without thinking
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ ${1:-} == --fix ]]; then
    cargo fmt --all
    ruff check --quiet --fix . || true
    ruff format --quiet .
    exit
fi

failed=()
step() {
    printf '\n-- %s\n' "$*"
    "$@" || failed+=("$1 $2")
}
step cargo fmt --all --check
step cargo clippy --quiet --workspace --all-targets -- -D warnings
step ruff check .
step ruff format --quiet --diff .
if ((${#failed[@]})); then
    printf '\nlint: failed: %s\n' "$(IFS=,; echo "${failed[*]}")"
    exit 1
fi
printf '\nlint: clean\n'
