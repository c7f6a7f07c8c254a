#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Serves directories of this machine, read-only and at their own paths, as the root of a guest.
# Arguments: socket, an empty directory, the directories to serve. To be run in a mount namespace
# of its own: the mounts, and what the guest writes, go with the daemon, whose pid is this script's.
set -e
socket=$1 root=$2
shift 2
mount -t tmpfs tmpfs "$root"
for directory in proc sys dev run tmp var etc; do
    mkdir "$root/$directory"
done
for name in bin sbin lib lib64; do
    ln -s "usr/$name" "$root/$name"
done
for directory; do
    mkdir -p "$root$directory"
    mount --bind "$directory" "$root$directory"
    mount -o remount,bind,ro "$root$directory"
done
exec /usr/lib/qemu/virtiofsd -f --socket-path="$socket" \
    -o source="$root" -o sandbox=chroot -o cache=always
