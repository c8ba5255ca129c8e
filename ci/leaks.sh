#!/usr/bin/env bash
# Memory errors and leaks of the extension: a bounded piece of everything (tests/audit/soak.py) under valgrind.
#
#   ci/leaks.sh [ROUNDS]      PYTHON picks the interpreter, as with make; 6 rounds take about four minutes
#
# Fails on any invalid read, write or free, and on every block that the extension has allocated and lost. Needs
# valgrind (Debian: apt-get install valgrind), which is installed if this may be done.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v valgrind >/dev/null || { apt-get update -qq && apt-get install -qq --no-install-recommends valgrind; }

make --silent build PROFILE=fast PYTHON="${PYTHON:-python3}"
tag=$("${PYTHON:-python3}" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
python=$PWD/.venv-$tag/bin/python

# The package once more, with an extension that has its line numbers (`make build` strips them).
PYO3_BUILD_EXTENSION_MODULE=1 PYO3_PYTHON=$python cargo build --quiet --profile fast -p ferrio-python
package=build/leaks/ferrio
rm -rf build/leaks
mkdir -p build/leaks
cp -r python/ferrio "$package"
rm -f "$package"/_ferrio.*.so
suffix=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
cp target/fast/lib_ferrio.so "$package/_ferrio$suffix"

# Every allocation of Python's is one of malloc's, so that valgrind sees each by itself.
PYTHONMALLOC=malloc PYTHONPATH=$PWD/build/leaks timeout 340 \
    valgrind --quiet --tool=memcheck --leak-check=full --show-leak-kinds=definite --num-callers=30 \
    --undef-value-errors=no --trace-children=no --child-silent-after-fork=yes \
    --xml=yes --xml-file=build/leaks/report.xml \
    "$python" tests/audit/soak.py "${1:-6}"
exec "$python" ci/leaks.py build/leaks/report.xml
