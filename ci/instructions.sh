#!/usr/bin/env bash
# How many instructions the hot paths (ci/hot_paths.py) take inside the extension, and how many calls leave it, counted by
# callgrind: the second instrument beside benches/, for what a shared machine's clock cannot tell. Fails if a path takes
# over 3 % more than it did.
#
#   ci/instructions.sh                  compared with the figures in ci/instructions.json; if these are of another compiler
#                                       or Python, with the commit that recorded them, built here (needs git's history)
#   ci/instructions.sh --against REV    compared with another revision, built here
#   ci/instructions.sh --levels         what being recorded costs, compared with a build that cannot record: fails if a
#                                       path pays more than LEVELS in ci/instructions.py allow
#   ci/instructions.sh --record         puts this tree's figures into ci/instructions.json
#
# PYTHON picks the interpreter, as with make. Needs valgrind (Debian: apt-get install valgrind), which is installed if
# this may be done.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v valgrind >/dev/null || { apt-get update -qq && apt-get install -qq --no-install-recommends valgrind; }

python=$(command -v "${PYTHON:-python3}")
suffix=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
work=$PWD/build/instructions
rm -rf "$work"
mkdir -p "$work"

# The package of the source tree $1, as users have it, in the folder $2; built with what else is said.
package() {
    mkdir -p "$2"
    (cd "$1" && PYO3_BUILD_EXTENSION_MODULE=1 PYO3_PYTHON=$python cargo build --quiet --release -p ferrio-python "${@:3}")
    cp -r "$1/python/ferrio" "$2"
    rm -f "$2"/ferrio/_ferrio.*.so
    cp "$CARGO_TARGET_DIR/release/lib_ferrio.so" "$2/ferrio/_ferrio$suffix"
}

# Compares with the revision $1.
against() {
    echo "compared with ${1:0:12}, built here"
    git archive --prefix=tree/ "$1" | tar -x -C "$work"
    package "$work/tree" "$work/that"
    exec "$python" ci/instructions.py "$work/this" --against "$work/that"
}

package "$PWD" "$work/this"
if [[ ${1:-} == --against ]]; then
    against "$2"
fi
if [[ ${1:-} == --levels ]]; then
    package "$PWD" "$work/bare" --no-default-features
    exec "$python" ci/instructions.py "$work/this" --without-record "$work/bare"
fi
if [[ $# == 0 ]] && ! "$python" ci/instructions.py --hold; then
    # A shallow clone would name a commit that only looks like the one.
    if [[ $(git rev-parse --is-shallow-repository) != false ]]; then
        echo "instructions: comparing with the commit that recorded them needs the whole history (git fetch --unshallow)"
        exit 1
    fi
    against "$(git log -1 --format=%H -- ci/instructions.json)"
fi
exec "$python" ci/instructions.py "$work/this" "$@"
