#!/usr/bin/env bash
# The interpreters that the machine's own distribution does not have yet: CPython 3.14 and 3.15 with their test suites, from Debian sid.
#
#   ci/pythons.sh [DIR]     (default build/pythons; needs root; does nothing when DIR is complete)
#
# makes
#   DIR/root          a minimal Debian sid with these interpreters, a C compiler and make
#   DIR/enter CMD...  runs CMD inside it, in the current directory: the project, /home, /root, /opt, /tmp and the Rust toolchain are seen
#                     at their own paths. `DIR/enter make build PYTHON=python3.14` does inside what `make build` does outside.
set -euo pipefail
cd "$(dirname "$0")/.."

versions=(3.14 3.15)
dir=$(realpath -m "${1:-build/pythons}")
root=$dir/root
# (The last of these are for building a free-threaded one: ci/free-threaded.sh.)
packages=ca-certificates,openssl,procps,gcc,libc6-dev,make,pkgconf,libssl-dev,libffi-dev,zlib1g-dev
for version in "${versions[@]}"; do
    packages+=,python$version-dev,python$version-venv,libpython$version-testsuite
done

# The mark names the packages, so that a changed list makes a new root.
if [[ $(cat "$root/.complete" 2>/dev/null) != "$packages" ]]; then
    command -v debootstrap >/dev/null || { apt-get update -qq && apt-get install -qq -y debootstrap >/dev/null; }
    rm -rf --one-file-system "$root"
    mkdir -p "$root"
    debootstrap --variant=minbase --include="$packages" sid "$root" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >"$dir/debootstrap.log" ||
        { tail -n 20 "$dir/debootstrap.log"; exit 1; }
    # The machine may have certificate authorities of its own.
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
    echo "$packages" >"$root/.complete"
fi

cat >"$dir/enter" <<'ENTER'
#!/bin/sh
# Runs a command inside the Debian sid next to this file. The mounts live in a namespace of their own and vanish with the command.
dir=$(dirname "$(realpath "$0")")
[ "$(id -u)" = 0 ] && new= || new=--map-root-user
# What is built inside links against a newer C library than the machine's: it has a target directory of its own.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target/sid}"
exec unshare --mount $new -- sh -c '
    root=$1 here=$2; shift 2
    # Of this directory and the current one, the whole tree they lie in.
    for path in /proc /sys /dev /tmp /home /root /opt /etc/resolv.conf /etc/hosts \
                "$CARGO_HOME" "$RUSTUP_HOME" "/$(echo "$root" | cut -d/ -f2)" "/$(echo "$here" | cut -d/ -f2)"; do
        # What sid has itself stays.
        case $path in ""|/|/usr|/etc|/var|/bin|/sbin|/lib*|/run|/boot) continue ;; esac
        mountpoint -q "$root$path" && continue
        if [ -d "$path" ]; then mkdir -p "$root$path"; else touch "$root$path"; fi
        mount --rbind "$path" "$root$path" || exit
    done
    exec chroot "$root" /usr/bin/env --chdir="$here" "$@"
' enter "$dir/root" "$PWD" "$@"
ENTER
chmod +x "$dir/enter"

for version in "${versions[@]}"; do
    "$dir/enter" "python$version" -c 'import sys, test.test_asyncio; print(sys.version)'
done
