#!/bin/sh
# Runs the inbox and its wake under every interleaving of the threads that use them.
# A build folder of its own: the flag would otherwise rebuild everything, here and at the next ordinary build.
set -eu
cd "$(dirname "$0")/.."
RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test -p ferrio --release --test inbox_loom "$@"
