# SPDX-License-Identifier: Apache-2.0
"""Guests hold the address with their kernel's defaults, and only the director is heard."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cloudlb.lab.guest import Guest
from cloudlb.lab.hypervisor import virsh
from cloudlb.lab.lab import Lab
from tests.lab.control import Cloud, Sniffer, get, scrape, wait_until
from tests.lab.wire import Asking, tap

FAMILIES = pytest.mark.parametrize("version", [4, 6])
ANNOUNCED = {4: {"arp-request", "arp-reply"}, 6: {"advertisement"}}


def _forget_neighbours(lab: Lab) -> None:
    lab.host("client").run(["ip", "neigh", "flush", "all"])
    for guest in lab.guests:
        guest.run(["ip", "neigh", "flush", "dev", "eth0"], check=False)


@FAMILIES
@pytest.mark.requirement("A15")
@pytest.mark.requirement("L15")
def test_only_the_director_binds_the_address_even_with_cold_caches(
    lab: Lab, cloud: Cloud, version: int
) -> None:
    pool = cloud.pool(["vm1", "vm2", "vm3", "vm4"], version)
    with Sniffer(lab, pool["address"]) as sniffer:
        for _ in range(4):
            _forget_neighbours(lab)
            assert [get(lab, pool) for _ in range(4)] == ["vm1", "vm2", "vm3", "vm4"]
    assert {mac for mac, _ in sniffer.claims} == {lab.host("director").spec.lan_mac}


@pytest.mark.requirement("A15")
def test_duplicate_address_detection_of_every_member_ends_well(lab: Lab, cloud: Cloud) -> None:
    pool = cloud.pool(["vm1", "vm2", "vm3", "vm4"], 6)

    def states() -> str:
        return "".join(
            g.run(["ip", "-6", "address", "show", "dev", "eth0"]).stdout for g in lab.guests
        )

    wait_until("no address is tentative", lambda: "tentative" not in states())
    assert states().count(f"{pool['address']}/128") == 4
    assert "dadfailed" not in states()


def _announce(guest: Guest, address: str) -> None:
    """Have a guest say unasked that it has an address."""
    if ":" not in address:
        for option in ("-U", "-A"):  # gratuitous request, gratuitous reply
            guest.run(["arping", option, "-c", "3", "-I", "eth0", "-s", address, address])
        return
    notify = "net.ipv6.conf.eth0.ndisc_notify"
    guest.run(["sysctl", "-w", f"{notify}=1"])
    guest.run(["ip", "link", "set", "eth0", "address", guest.spec.mac])
    guest.run(["sysctl", "-w", f"{notify}=0"])


@FAMILIES
@pytest.mark.requirement("A15")
def test_a_guest_that_announces_the_address_is_not_heard(
    lab: Lab, cloud: Cloud, version: int
) -> None:
    pool = cloud.pool(["vm1", "vm3"], version)
    assert get(lab, pool)
    guest, address = lab.guest("vm3"), pool["address"]
    at_tap = "compute2", tap(lab.host("compute2"), "vm3")
    with Sniffer(lab, address) as heard, Sniffer(lab, address, *at_tap) as said:
        _announce(guest, address)
        for _ in range(4):
            assert get(lab, pool)
    assert {what for mac, what in said.claims if mac == guest.spec.mac} >= ANNOUNCED[version]
    assert guest.spec.mac not in {mac for mac, _ in heard.claims}
    neighbours = lab.host("client").run(["ip", "neigh", "show", address]).stdout
    assert lab.host("director").spec.lan_mac in neighbours


@FAMILIES
@pytest.mark.requirement("A15")
def test_the_guests_own_address_is_unaffected(lab: Lab, cloud: Cloud, version: int) -> None:
    cloud.pool(["vm1", "vm3"], version)
    lab.host("client").run(["ip", "neigh", "flush", "all"])
    spec = lab.guest("vm1").spec
    lab.host("client").run(
        ["ping", "-c", "2", "-i", "0.2", str(spec.ipv4 if version == 4 else spec.ipv6)]
    )


@FAMILIES
@pytest.mark.requirement("A15")
@pytest.mark.requirement("L15")
def test_a_restored_guest_is_guarded_before_its_first_frame(
    lab: Lab, cloud: Cloud, version: int
) -> None:
    pool = cloud.pool(["vm3", "vm4"], version)
    compute = lab.host("compute2")
    saved = "/var/lib/libvirt/guarded"
    virsh(compute, "save", "vm4", saved)
    try:
        with (
            _kept_from_answering(lab, pool, "compute2"),
            Sniffer(lab, pool["address"]) as sniffer,
        ):
            virsh(compute, "restore", saved)
            lab.guest("vm4").wait_ready()
            wait_until("vm4 serves again", lambda: get(lab, pool) == "vm4")
    finally:
        compute.run(["rm", "-f", saved])
    assert {mac for mac, _ in sniffer.claims} == {lab.host("director").spec.lan_mac}


def test_the_guard_goes_with_the_pool(lab: Lab, cloud: Cloud) -> None:
    pool = cloud.pool(["vm1"])
    cloud.clean()
    cloud.hold("vm1", pool["address"])
    lab.host("client").run(["ip", "neigh", "flush", "all"])
    lab.host("client").run(["ping", "-c", "1", "-W", "3", pool["address"]])


@pytest.mark.requirement("A15")
@FAMILIES
def test_a_guest_that_is_no_member_any_more_stays_silent_about_the_address(
    lab: Lab, cloud: Cloud, version: int
) -> None:
    pool = cloud.pool(["vm1", "vm3"], version)
    member = cloud.members(pool)["vm1"]
    cloud.ok("DELETE", f"/pools/{pool['id']}/members/{member['id']}")
    wait_until("vm1 is forgotten", lambda: "vm1" not in cloud.members(pool))
    _only_vm3_serves_and_only_the_director_is_heard(lab, pool)


@pytest.mark.requirement("A15")
@FAMILIES
def test_a_guest_that_was_never_a_member_cannot_claim_the_address(
    lab: Lab, cloud: Cloud, version: int
) -> None:
    pool = cloud.pool(["vm3"], version)
    detection = "net.ipv6.conf.eth0.accept_dad"
    lab.guest("vm1").run(["sysctl", "-w", f"{detection}=0"])  # the director defends its address
    try:
        cloud.hold("vm1", pool["address"])
        _only_vm3_serves_and_only_the_director_is_heard(lab, pool)
    finally:
        lab.guest("vm1").run(["sysctl", "-w", f"{detection}=1"])


def _only_vm3_serves_and_only_the_director_is_heard(lab: Lab, pool: dict[str, Any]) -> None:
    with (
        _kept_from_answering(lab, pool, "compute1"),
        Sniffer(lab, pool["address"]) as sniffer,
    ):
        for _ in range(6):
            _forget_neighbours(lab)
            assert get(lab, pool) == "vm3"
    assert {mac for mac, _ in sniffer.claims} == {lab.host("director").spec.lan_mac}


@contextmanager
def _kept_from_answering(lab: Lab, pool: dict[str, Any], host: str) -> Iterator[None]:
    """The client asks for the address all the time; on the host the guard drops questions."""

    def dropped() -> float:
        return scrape(lab, host, "cloudlb_events_total", reason="guard_drop")

    before = dropped()
    with Asking(lab, pool["address"]) as asking:
        yield
    assert asking.asked > 0
    assert dropped() - before >= asking.asked / 2, "the guests of the host were asked"
