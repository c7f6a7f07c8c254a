# SPDX-License-Identifier: Apache-2.0
"""What a host tells of itself, from its domains, links and guards."""

import threading
from dataclasses import replace
from ipaddress import ip_address
from typing import Any
from uuid import UUID

import pytest

from cloudlb.agents.inventory import HostInventory
from cloudlb.agents.ports import Ports
from cloudlb.engines.memory import MemoryEngine
from cloudlb.model.ether import Mac
from cloudlb.model.host import Interface, Inventory, Owner, Role, Server, Uplink
from cloudlb.model.network import Address
from cloudlb.net import link
from cloudlb.net.link import Link
from cloudlb.virt.xml import Domain, DomainInterface
from tests.planes import mac

BRIDGE = Link(2, "br0", Mac("02:00:00:00:00:02"), kind="bridge")
TAP = Link(10, "tap1", Mac("fe:54:00:00:00:01"), BRIDGE.index, "tun")
WEB = Domain(
    UUID(int=1), "web", Owner.LIBVIRT, "project", (DomainInterface(mac(1), "tap1", "br0"),)
)
OFF = Domain(UUID(int=2), "off", Owner.NOVA, "", (DomainInterface(mac(2), "", "br0"),))


class Guards(MemoryEngine):
    """Has seen the guest behind the tap."""

    def guest_addresses(self, index: int) -> tuple[Address, ...]:
        assert index == TAP.index
        return (ip_address("192.0.2.12"), ip_address("192.0.2.11"))


class Domains:
    """A libvirt that answers what it is told."""

    def __init__(self, found: dict[Domain, bool] | None) -> None:
        self.found = found

    def domains(self) -> dict[Domain, bool] | None:
        return self.found


@pytest.fixture
def ports() -> Ports:
    made = Ports(
        {"lan": "br0"}, frozenset({Role.COMPUTE}), Guards(), threading.RLock(), lambda: None
    )
    made.link_changed(BRIDGE)
    made.link_changed(TAP)
    return made


def _take(ports: Ports, libvirt: Any) -> Inventory | None:
    inventory = HostInventory(
        (Role.COMPUTE,), "memory", Guards(), threading.RLock(), ports, libvirt
    )
    return inventory.take(7)


def test_running_guests_have_their_tap_network_and_addresses(ports: Ports) -> None:
    found = _take(ports, Domains({WEB: True}))
    assert found is not None
    interface = Interface(
        mac(1), "tap1", "lan", (ip_address("192.0.2.11"), ip_address("192.0.2.12"))
    )
    assert found.servers == (Server(WEB.id, "web", Owner.LIBVIRT, True, "project", (interface,)),)
    assert (found.revision, found.roles, found.engine) == (7, (Role.COMPUTE,), "memory")


def test_a_guest_that_is_off_has_the_network_of_its_bridge(ports: Ports) -> None:
    found = _take(ports, Domains({OFF: False}))
    assert found is not None
    assert found.servers[0].running is False
    assert found.servers[0].interfaces == (Interface(mac(2), "", "lan"),)


def test_a_tap_that_is_not_there_yet_has_no_addresses(ports: Ports) -> None:
    early = replace(WEB, interfaces=(DomainInterface(mac(1), "tap9", "br0"),))
    found = _take(ports, Domains({early: True}))
    assert found is not None
    assert found.servers[0].interfaces == (Interface(mac(1), "tap9", "lan"),)


def test_servers_stand_in_the_order_of_their_ids(ports: Ports) -> None:
    found = _take(ports, Domains({OFF: False, WEB: True}))
    assert found is not None
    assert [server.name for server in found.servers] == ["web", "off"]


def test_nothing_is_told_while_libvirt_does_not_answer(ports: Ports) -> None:
    assert _take(ports, Domains(None)) is None


def test_a_host_without_libvirt_has_no_servers(ports: Ports) -> None:
    found = _take(ports, None)
    assert found is not None
    assert found.servers == ()


def test_uplinks_carry_the_hosts_own_addresses_and_gateways(
    ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {BRIDGE.index: [ip_address("fe80::1"), ip_address("192.0.2.1")]}
    hops = {BRIDGE.index: [ip_address("192.0.2.254")]}
    monkeypatch.setattr(link, "addresses", own.__getitem__)
    monkeypatch.setattr(link, "gateways", hops.__getitem__)
    found = _take(ports, None)
    assert found is not None
    assert found.uplinks == (
        Uplink(
            "lan",
            "br0",
            BRIDGE.mac,
            (ip_address("192.0.2.1"), ip_address("fe80::1")),
            (ip_address("192.0.2.254"),),
        ),
    )
