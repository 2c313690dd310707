#!/usr/bin/env bash
# Renews the corpora that are kept in the repository, from these and from what runs have found: fuzz/keep.sh [TARGET]...
# Keeps as few inputs as reach the same code; of each target at most 32, none over 16 KiB, in all about 64 KiB.
set -euo pipefail
cd "$(dirname "$0")/.."
export RUSTC_BOOTSTRAP=1
[ $# -gt 0 ] || mapfile -t targets < <(cargo fuzz list)
[ $# -eq 0 ] || targets=("$@")
for target in "${targets[@]}"; do
  corpus=fuzz/corpus/$target
  mkdir -p "fuzz/grown/$target" "$corpus"
  merged=$(mktemp -d)
  cargo fuzz run "$target" "$merged" "$corpus" "fuzz/grown/$target" -- \
    -merge=1 -max_len=65536 -rss_limit_mb=2048 -timeout=25
  # If there are too many, those that stay have all sizes.
  mapfile -t files < <(find "$merged" -type f -size -17k -printf '%s %f\n' | sort -n)
  rm -rf "$corpus"
  mkdir -p "$corpus"
  kept=$((${#files[@]} < 32 ? ${#files[@]} : 32))
  bytes=0
  for ((at = 0; at < kept; at++)); do
    read -r size name <<<"${files[at * ${#files[@]} / kept]}"
    bytes=$((bytes + size))
    [ $bytes -le 65536 ] || break
    cp "$merged/$name" "$corpus/$name"
  done
  rm -rf "$merged"
  printf '%s: %s of %s inputs are kept\n' "$target" "$(ls "$corpus" | wc -l)" "${#files[@]}"
done
