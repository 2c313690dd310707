#!/usr/bin/env bash
# Installs a Debian package of bkfs, serves and pushes with it, upgrades and removes it, all in a mount namespace of its
# own: the host's root is the lower layer of an overlay, so nothing of the host changes.
#
#   packaging/test-deb.sh PACKAGE.deb
#
# Prints 'skipped' where there is no dpkg, or where namespaces or overlays are not allowed.
set -euo pipefail

package=$(realpath "${1:?usage: packaging/test-deb.sh PACKAGE.deb}")
skip() { echo "skipped: $*"; exit 0; }

if [ "${2:-}" != inside ]; then
    command -v dpkg >/dev/null || skip "there is no dpkg"
    [ "$(id -u)" = 0 ] || skip "only root can install packages"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    unshare --mount true 2>/dev/null || skip "mount namespaces are not allowed"
    unshare --mount --propagation private bash "$(realpath "$0")" "$package" inside "$work"
    exit
fi

work=$3
# The upper layer cannot lie on an overlay, which the root of a container often is.
mount -t tmpfs tmpfs "$work" 2>/dev/null || skip "a tmpfs cannot be mounted"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$work/root" 2>/dev/null ||
    skip "an overlay cannot be mounted"
root=$work/root
mount -t proc proc "$root/proc" 2>/dev/null || mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
cp "$package" "$root/tmp/bkfs.deb"

cat >"$root/tmp/inside.sh" <<'INSIDE'
set -euo pipefail
say() { printf -- '-- %s\n' "$*"; }

# Become the user of the server's unit. In the background, that is the process that a signal reaches.
exec_as_server() { exec setpriv --reuid=bkfs --regid=bkfs --clear-groups env HOME=/var/lib/bkfs \
    BKFS_CONFIG_DIR=/var/lib/bkfs/.config BKFS_CACHE_DIR=/tmp/bkfs-cache "$@"; }
as_server() { (exec_as_server "$@"); }
start() {
    exec_start=$(sed -n 's/^ExecStart=//p' /usr/lib/systemd/system/bkfs-server.service)
    : >/tmp/server.log
    # shellcheck disable=SC2086
    exec_as_server $exec_start --listen 127.0.0.1:$port >>/tmp/server.log 2>&1 &
    server=$!
    until grep -q '^listening on' /tmp/server.log; do
        kill -0 $server || { cat /tmp/server.log; exit 1; }
        sleep 0.1
    done
}

trap '[ -z "${server:-}" ] || kill "$server" 2>/dev/null || true' EXIT
say install
dpkg --install /tmp/bkfs.deb
for file in /usr/bin/bkfs /usr/lib/systemd/system/bkfs-server.service /usr/lib/systemd/system/bkfs-server.socket \
    /usr/lib/systemd/system/bkfs-push@.service /usr/lib/systemd/user/bkfs-push.timer \
    /usr/share/doc/bkfs/OPERATIONS.md /usr/share/man/man1/bkfs-push.1.gz \
    /usr/share/bash-completion/completions/bkfs; do
    test -e "$file" || { echo "$file is missing"; exit 1; }
done
test "$(readlink -f /usr/sbin/mount.bkfs)" = /usr/bin/bkfs
test "$(stat -c '%U %a' /var/lib/bkfs)" = 'bkfs 700'

say 'start and push'
port=$((20000 + RANDOM % 20000))
as_server bkfs server init --data /var/lib/bkfs --address 127.0.0.1:$port
start
token=$(as_server bkfs server invite --data /var/lib/bkfs alice --can all)
export BKFS_CONFIG_DIR=/tmp/client BKFS_CACHE_DIR=/tmp/client-cache BKFS_PASSWORD=correct-horse
BKFS_REPOSITORY=$(bkfs join "$token")
export BKFS_REPOSITORY
bkfs init
bkfs push --target etc /etc/hostname

say upgrade
# A package with a higher version, made of the installed one.
dpkg-deb --raw-extract /tmp/bkfs.deb /tmp/next
sed -i 's/^Version: .*/&+next/' /tmp/next/DEBIAN/control
dpkg-deb --build --root-owner-group /tmp/next /tmp/next.deb >/dev/null
dpkg --install /tmp/next.deb
kill $server && wait $server
start
bkfs push --target etc /etc/hostname
bkfs check --read-data
test "$(bkfs snapshots --json | grep -o '"target"' | wc -l)" -ge 2

say 'remove and purge'
kill $server && wait $server
dpkg --remove bkfs
! test -e /usr/bin/bkfs && ! test -e /usr/sbin/mount.bkfs
test -e /var/lib/bkfs/identity
dpkg --purge bkfs
test -e /var/lib/bkfs/identity || { echo 'a purge removed backups'; exit 1; }
say 'all is well'
INSIDE
chroot "$root" bash ${TRACE:+-x} /tmp/inside.sh
