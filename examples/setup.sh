#!/usr/bin/env bash
# Installs what the build, the examples and the tests need in addition to Rust, on Debian and its derivatives. Does
# nothing if everything is installed already.
set -euo pipefail

need=()
want() { command -v "$1" >/dev/null 2>&1 || need+=("$2"); }
want cc gcc
want fusermount3 fuse3
want rsync rsync
want setfacl acl
want setfattr attr
want git git
want unshare util-linux
want mksquashfs squashfs-tools
want script bsdutils
want mkfs.exfat exfatprogs
want mount.exfat-fuse exfat-fuse
[ ${#need[@]} -eq 0 ] && exit 0

sudo=
[ "$(id -u)" -eq 0 ] || sudo=sudo
if ! command -v apt-get >/dev/null 2>&1; then
  echo "please install: ${need[*]}" >&2
  exit 1
fi
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq "${need[@]}" >/dev/null
