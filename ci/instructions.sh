#!/usr/bin/env bash
# How many instructions the hot paths (ci/hot_paths.py) take, counted by callgrind: the second instrument beside
# benches/, for what a shared machine's clock cannot tell. Fails if a path takes over 3 % more than it did.
#
#   ci/instructions.sh                  compared with the figures in ci/instructions.json
#   ci/instructions.sh --against REV    compared with another revision, built here: right on every machine
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

package "$PWD" "$work/this"
if [[ ${1:-} == --against ]]; then
    git archive --prefix=tree/ "$2" | tar -x -C "$work"
    package "$work/tree" "$work/that"
    exec "$python" ci/instructions.py "$work/this" --against "$work/that"
fi
if [[ ${1:-} == --levels ]]; then
    package "$PWD" "$work/bare" --no-default-features
    exec "$python" ci/instructions.py "$work/this" --without-record "$work/bare"
fi
exec "$python" ci/instructions.py "$work/this" "$@"
