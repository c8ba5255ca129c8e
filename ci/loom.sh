#!/bin/sh
# Runs the inbox and its wake under every interleaving of two and three threads with at most LOOM_MAX_PREEMPTIONS
# involuntary switches. Four take ten seconds, five take a minute, and the number of interleavings has no end in sight.
# A build folder of its own: the flag would otherwise rebuild everything, here and at the next ordinary build.
set -eu
cd "$(dirname "$0")/.."
export LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-4}"
RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test -p ferrio --release --test inbox_loom "$@"
