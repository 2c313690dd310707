#!/usr/bin/env bash
# Runs the named fuzz targets, or all of them, one after another: fuzz/run.sh SECONDS [TARGET]...
# Stops at the first finding. With 0 seconds, it only replays the corpora. See README.md.
set -euo pipefail
cd "$(dirname "$0")/.."
export RUSTC_BOOTSTRAP=1
seconds=${1:?seconds for each target}
shift
[ $# -gt 0 ] || mapfile -t targets < <(cargo fuzz list)
[ $# -eq 0 ] || targets=("$@")
cargo run --quiet --manifest-path fuzz/Cargo.toml --target-dir target --no-default-features --example seeds
[ "$seconds" -gt 0 ] && limit=-max_total_time=$seconds || limit=-runs=0
for target in "${targets[@]}"; do
  printf '\n== %s\n' "$target"
  mkdir -p "fuzz/grown/$target" "fuzz/corpus/$target"
  # What is found goes into the first folder.
  cargo fuzz run "$target" "fuzz/grown/$target" "fuzz/corpus/$target" -- \
    "$limit" -max_len=65536 -rss_limit_mb=2048 -timeout=25 -print_final_stats=1
done
