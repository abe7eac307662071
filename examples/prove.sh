#!/usr/bin/env bash
# Proves that 27 needs 111 steps to reach 1, by the bytecode of examples/collatz, and verifies the proof.
set -euo pipefail
cd "$(dirname "$0")/.."
zvm() { cargo run --quiet --locked --release -- "$@"; }
proof=$(mktemp -d)/collatz.zvmp
zvm prove examples/collatz/Collatz.json --sig 'steps(uint256)' 27 -o "$proof"
zvm verify "$proof" --program examples/collatz/Collatz.json --sig 'steps(uint256)' 27
