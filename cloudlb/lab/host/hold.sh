#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes this process the holder of a lab host: it runs in the host's own mount, UTS and
# network namespace, gives it private directories and then only keeps the namespaces alive.
# usage: hold.sh NAME STATE HOST_STATE CACHE CHECKOUT VENV
set -eu
name=$1 state=$2 host_state=$3 cache=$4 checkout=$5 venv=$6

hostname "$name"
# Open what stays visible before the private directories hide it.
exec 3<"$state" 4<"$cache" 5<"$checkout" 6<"$venv"
mount --bind "$state/hosts" /etc/hosts
# libvirtd refuses to start without the account that libvirt-daemon-system would make.
account() {
    cp "/etc/$1" "$host_state/$1"
    grep -q '^libvirt-qemu:' "/etc/$1" || echo "$2" >>"$host_state/$1"
    mount --bind "$host_state/$1" "/etc/$1"
}
account passwd 'libvirt-qemu:x:64055:64055:Libvirt Qemu:/var/lib/libvirt:/usr/sbin/nologin'
account group 'libvirt-qemu:x:64055:'
# The copies of other namespaces' pins would keep those namespaces alive.
umount -R /run/netns 2>/dev/null || true

for directory in /run /tmp /dev/shm /var/lib /var/cache /var/log /etc/libvirt; do
    mount -t tmpfs -o mode=755 cloudlb-lab "$directory"
done
chmod 1777 /tmp /dev/shm

show() {
    [ "$1" -ef "/proc/self/fd/$2" ] && return
    mkdir -p "$1"
    mount -c --bind "/proc/self/fd/$2" "$1"
}
show "$state" 3
show "$checkout" 5
show "$venv" 6
show /var/lib/cloudlb-lab 4
mkdir -p /run/guests /var/log /run/lock /etc/libvirt/hooks
mount --bind "$host_state/guests" /run/guests
mount --bind "$host_state/log" /var/log
# Asking QEMU for its capabilities takes a libvirtd eight seconds here.
mkdir -p /var/lib/cloudlb-lab/capabilities /var/cache/libvirt/qemu/capabilities
mount --bind /var/lib/cloudlb-lab/capabilities /var/cache/libvirt/qemu/capabilities
exec 3<&- 4<&- 5<&- 6<&-

# A sysfs shows the devices of the network namespace that it was mounted in.
umount -l -R /sys
mount -t sysfs sysfs /sys
mount -t bpf bpf /sys/fs/bpf

for scope in all default; do
    echo 0 >"/proc/sys/net/ipv4/conf/$scope/rp_filter"
    echo 0 >"/proc/sys/net/ipv6/conf/$scope/accept_ra"
    echo 0 >"/proc/sys/net/ipv6/conf/$scope/accept_dad"
done
echo 0 >/proc/sys/net/ipv6/conf/default/dad_transmits
: >"$host_state/ready"
exec sleep infinity
