#!/usr/bin/env bash
# ferrio's own tests on the free-threaded CPython, which Debian has no package of: it is built from Debian's source of 3.14,
# inside the sid of ci/pythons.sh (PYTHONS: where that is), as /usr/local/bin/python3.14t. Needs root, and some 3 minutes the
# first time.
set -euo pipefail
cd "$(dirname "$0")/.."

pythons=${PYTHONS:-build/pythons}
ci/pythons.sh "$pythons" >/dev/null
enter=$pythons/enter source=$pythons/root/usr/src/python3.14t

# The newest source that the archive has: its index is ahead of the files now and then.
fetch() {
    local newest patch archive=${DEBIAN_MIRROR:-http://deb.debian.org/debian}/pool/main/p/python3.14
    newest=$("$enter" python3.14 -c 'import sys; print(sys.version_info.micro)')
    for ((patch = newest; patch >= 0; patch--)); do
        python3 - "$archive/python3.14_3.14.$patch.orig.tar.xz" "$source.tar.xz" <<'FETCH' && return
import sys, urllib.error, urllib.request
try:
    urllib.request.urlretrieve(*sys.argv[1:])
except urllib.error.HTTPError as error:
    sys.exit(1 if error.code == 404 else f"{sys.argv[1]}: {error}")
FETCH
    done
    echo "free-threaded: the archive has no source of CPython 3.14"
    return 1
}

if ! "$enter" python3.14t -c '' 2>/dev/null; then
    fetch
    rm -rf "$source"
    mkdir -p "$source"
    tar -xJf "$source.tar.xz" --strip-components=1 -C "$source"
    "$enter" sh -ec '
        cd /usr/src/python3.14t
        ./configure -q --disable-gil --with-ensurepip=install
        make -s -j"$(nproc)"
        make -s altinstall' >"$source.log" 2>&1 || { tail -n 30 "$source.log"; exit 1; }
    rm -rf "$source" "$source.tar.xz"
fi

"$enter" python3.14t -c 'import sys; print(sys.version); assert not sys._is_gil_enabled()'
"$enter" make --silent test-core PROFILE=fast PYTHON=python3.14t
