# SPDX-License-Identifier: Apache-2.0
"""The lab's plan: addresses that do not collide."""

from cloudlb.lab.topology import (
    GUESTS,
    HOSTS,
    LAN_NETWORK4,
    LAN_NETWORK6,
    VIP_RANGE4,
    VIP_RANGE6,
    HostSpec,
    Role,
    hosts_file,
)


def test_no_address_or_mac_is_used_twice():
    used = [host.management for host in HOSTS]
    used += [address for host in HOSTS if host.on_lan for address in (host.lan4, host.lan6)]
    used += [address for guest in GUESTS for address in (guest.ipv4, guest.ipv6)]
    used += [mac for host in HOSTS for mac in (host.lan_mac, host.management_mac)]
    used += [guest.mac for guest in GUESTS]
    assert len(used) == len(set(used))


def test_vip_ranges_hold_no_address_of_a_host_or_guest():
    taken4 = [host.lan4 for host in HOSTS] + [guest.ipv4 for guest in GUESTS]
    taken6 = [host.lan6 for host in HOSTS] + [guest.ipv6 for guest in GUESTS]
    assert VIP_RANGE4.subnet_of(LAN_NETWORK4)
    assert VIP_RANGE6.subnet_of(LAN_NETWORK6)
    assert not [address for address in taken4 if address in VIP_RANGE4]
    assert not [address for address in taken6 if address in VIP_RANGE6]


def test_first_guest_ends_in_eleven_in_both_families():
    assert (str(GUESTS[0].ipv4), str(GUESTS[0].ipv6)) == ("10.60.0.11", "fd60::11")


def test_addresses_of_a_compute_host_are_on_its_bridge():
    assert HostSpec("c", Role.COMPUTE, 9).lan_device == "br0"
    assert HostSpec("d", Role.DIRECTOR, 9).lan_device == "eth0"


def test_hosts_file_names_every_host_by_its_management_address():
    text = hosts_file()
    assert all(f"{host.management} {host.name}\n" in text for host in HOSTS)
