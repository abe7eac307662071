#!/usr/bin/env bash
# Runs every test of the workspace. ZVM_SLOW=1 adds the slow proofs; ZVM_CORPUS names the folder of public contracts
# (default: shared/corpus beside the checkout), without which the tests that need it count as skipped.
set -euo pipefail
cd "$(dirname "$0")"
if command -v cargo-nextest >/dev/null 2>&1; then
    cargo nextest run --locked --workspace --no-fail-fast "$@"
    cargo test --locked --workspace --doc
else
    cargo test --locked --workspace --no-fail-fast "$@"
fi
