#!/usr/bin/env bash
# Type-checks the workspace for systems and builds of Python that this machine cannot run.
#
#   ci/platforms.sh [NAME...]     all of them without a name: linux windows macos free-threaded
#
# The standard library's source and a compiler that matches it come from Debian's packages, unpacked into
# build/cross-rust and never installed (they would conflict with rustup). Needs apt-get with Debian's sources.
set -euo pipefail
cd "$(dirname "$0")/.."

here=build/cross-rust
fetch() {
    [[ -e $here/.complete ]] && return
    rm -rf "$here"
    mkdir -p "$here/packages"
    (
        cd "$here/packages"
        apt-get update -qq
        # Two packages have their version in their name.
        library=$(depends libstd-rust-web-dev libstd-rust-web-)
        apt-get download -qq -o APT::Sandbox::User=root rustc-web rust-web-src libstd-rust-web-dev "$library" "$(depends "$library" libllvm)"
        for package in *.deb; do dpkg -x "$package" ..; done
    )
    rm -rf "$here/packages"
    touch "$here/.complete"
}

# depends PACKAGE PREFIX: the dependency of PACKAGE whose name begins with PREFIX.
depends() {
    apt-cache depends "$1" | sed -n "s/^ *Depends: \($2.*\)/\1/p" | head -n 1
}

# check TITLE TARGET PYTHON [PACKAGE...]: what `cargo check` says of the workspace for that target.
check() {
    local title=$1 target=$2 python=$3
    printf '\n-- %s (%s, Python %s)\n' "$title" "$target" "$python"
    # RUSTC_BOOTSTRAP: -Zbuild-std makes the standard library for a target that has no ready-made one here.
    RUSTC_BOOTSTRAP=1 RUSTC="$PWD/$here/usr/bin/rustc" LD_LIBRARY_PATH="$PWD/$here/usr/lib/$(uname -m)-linux-gnu" \
    CARGO_TARGET_DIR="$PWD/target/platforms" RUSTFLAGS=-Awarnings \
    PYO3_CROSS=1 PYO3_CROSS_PYTHON_VERSION="$python" \
        "$(rustup which cargo 2>/dev/null || command -v cargo)" check --quiet --locked \
        -Zbuild-std=std,panic_abort --target "$target" -p ferrio -p ferrio-python &&
        echo ok
}

fetch
(($#)) || set -- linux windows macos free-threaded
failed=()
for name; do
    case $name in
    linux) check Linux x86_64-unknown-linux-gnu 3.13 ;;
    windows) check Windows x86_64-pc-windows-msvc 3.13 ;;
    macos) check macOS aarch64-apple-darwin 3.13 ;;
    free-threaded) check "Linux, free-threaded" x86_64-unknown-linux-gnu 3.14t ;;
    *) echo "ci/platforms.sh: unknown platform: $name" >&2; exit 2 ;;
    esac || failed+=("$name")
done
if ((${#failed[@]})); then
    echo "does not compile for: ${failed[*]}"
    exit 1
fi
echo "compiles for: $*"
