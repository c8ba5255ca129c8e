#!/usr/bin/env bash
# ferrio's own tests on the free-threaded CPython, which Debian has no package of: it is built from Debian's source of 3.14,
# inside the sid of ci/pythons.sh (PYTHONS: where that is). Needs root, and some 3 minutes the first time.
set -euo pipefail
cd "$(dirname "$0")/.."

pythons=${PYTHONS:-build/pythons}
ci/pythons.sh "$pythons" >/dev/null
enter=$pythons/enter source=$pythons/root/usr/src/python3.14t
# (A directory of its own: the installation has a python3.14, too.)
home=/usr/local/python3.14t python=/usr/local/python3.14t/bin/python3.14t

# The newest source that the archive has: its index is ahead of the files now and then.
fetch() {
    local newest patch archive=${DEBIAN_MIRROR:-http://deb.debian.org/debian}/pool/main/p/python3.14
    newest=$("$enter" python3.14 -c 'import sys; print(sys.version_info.micro)')
    for ((patch = newest; patch >= 0; patch--)); do
        python3 - "$archive/python3.14_3.14.$patch.orig.tar.xz" "$source.tar.xz" <<'FETCH' && return
import sys, urllib.error, urllib.request
try:
    urllib.request.urlretrieve(*sys.argv[1:])
except urllib.error.URLError as error:
    sys.exit(f"{sys.argv[1]}: {error}")
FETCH
    done
    return 1
}

if ! "$enter" "$python" -c '' 2>/dev/null; then
    fetch 2>"$source.log" || {
        # That is nothing of ours.
        tail -n 1 "$source.log"
        echo "free-threaded: not tested, as the archive gives no source of CPython 3.14"
        exit 0
    }
    rm -rf "$source"
    mkdir -p "$source"
    tar -xJf "$source.tar.xz" --strip-components=1 -C "$source"
    "$enter" sh -ec "
        cd /usr/src/python3.14t
        ./configure -q --disable-gil --with-ensurepip=install --prefix=$home
        make -s -j$(nproc)
        make -s altinstall" >"$source.log" 2>&1 || { tail -n 30 "$source.log"; exit 1; }
    rm -rf "$source" "$source.tar.xz"
fi

"$enter" "$python" -c 'import sys; print(sys.version); assert not sys._is_gil_enabled()'
tests=("$enter" make --silent test-core PROFILE=fast PYTHON="$python")
"${tests[@]}" || {
    printf '\n-- what has failed, once more\n'
    PYTEST_ADDOPTS=--last-failed "${tests[@]}"
}
