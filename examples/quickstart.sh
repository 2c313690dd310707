#!/usr/bin/env bash
# The main job, from nothing: build bkfs, start a server on loopback, join it, create a repository, push a real folder
# twice with a change in between, mount it, copy files out with cp, restore, compare, and clean up.
#
#   examples/quickstart.sh [FOLDER]      FOLDER is pushed with this project's sources (default: docs)
set -euo pipefail
cd "$(dirname "$0")/.."
examples/setup.sh

echo "building bkfs; the first time, this takes some minutes"
cargo build --release --locked
bkfs=$(realpath "${CARGO_TARGET_DIR:-target}")/release/bkfs

work=$(mktemp -d)
export BKFS_CONFIG_DIR=$work/config BKFS_CACHE_DIR=$work/cache BKFS_PASSWORD=correct-horse-battery-staple
server=
mount=
finish() {
  [ -z "$mount" ] || { kill "$mount" 2>/dev/null && wait "$mount" 2>/dev/null; } || true
  mountpoint -q "$work/mnt" 2>/dev/null && { fusermount3 -u "$work/mnt" || true; }
  [ -z "$server" ] || { kill "$server" 2>/dev/null && wait "$server" 2>/dev/null; } || true
  chmod -R u+rwX "$work" && rm -rf "$work"
}
trap finish EXIT
# Compares contents and attributes of a copy with the source. Prints the differences, and fails if there are any.
same() {
  rsync -aHAXnc --delete --itemize-changes "$work/source/" "$1/" >"$work/differences"
  cat "$work/differences"
  [ ! -s "$work/differences" ] || exit 1
}
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

mkdir "$work/source" "$work/mnt" "$work/out"
cp -a "${1:-docs}" store fs src Cargo.lock "$work/source/"

say "a server on loopback"
port=$((20000 + RANDOM % 20000))
"$bkfs" server init --data "$work/server" --address 127.0.0.1:$port
"$bkfs" server run --data "$work/server" --listen 127.0.0.1:$port >"$work/server.log" 2>&1 &
server=$!
for _ in $(seq 100); do grep -q 'listening on' "$work/server.log" && break; sleep 0.1; done
cat "$work/server.log"

say "a client joins, and creates a repository"
export BKFS_REPOSITORY
BKFS_REPOSITORY=$("$bkfs" join "$("$bkfs" server invite --data "$work/server" alice --can all)")
echo "$BKFS_REPOSITORY"
"$bkfs" init

say "the first push"
"$bkfs" push -v -C "$work/source" .
say "a change, and the second push: it sends only what changed"
echo "a new line" >>"$work/source/Cargo.lock"
echo "a new file" >"$work/source/new.txt"
"$bkfs" push -v -C "$work/source" .
"$bkfs" snapshots

say "restore"
"$bkfs" restore latest "$work/out/restored"
same "$work/out/restored" && echo "restored: every byte and attribute is the same"

if [ -e /dev/fuse ]; then
  say "mount, list, and copy out"
  "$bkfs" mount "$work/mnt" &
  mount=$!
  for _ in $(seq 100); do [ -e "$work/mnt/latest" ] && break; sleep 0.1; done
  ls "$work/mnt" "$work/mnt/latest/"
  cp -a "$work/mnt/latest/." "$work/out/copied"
  same "$work/out/copied" && echo "copied out of the mount: every byte and attribute is the same"
  kill "$mount" && wait "$mount" || true
  mount=
else
  say "mount: skipped, there is no /dev/fuse here"
fi

say "check"
"$bkfs" check --read-data
say "done"
