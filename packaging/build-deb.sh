#!/usr/bin/env bash
# Makes a Debian package of a release build, with manual pages and completion: packaging/build-deb.sh. Prints its path.
# Needs cargo-deb.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --locked
target=$(realpath "${CARGO_TARGET_DIR:-target}")
made=packaging/generated
rm -rf "$made" "$target"/debian
mkdir -p "$made"
"$target/release/bkfs" man "$made/man1"
for shell in bash zsh fish; do
    "$target/release/bkfs" completions $shell >"$made/$shell"
done
ln -s /usr/bin/bkfs "$made/mount.bkfs"
cargo deb --no-build >&2
ls "$target"/debian/bkfs_*.deb
