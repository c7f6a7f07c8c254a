# SPDX-License-Identifier: Apache-2.0
"""Which interfaces carry programs: uplinks of directors, taps of mapped bridges, nothing else."""

import logging
import threading
from dataclasses import replace
from ipaddress import ip_address

import pytest

from cloudlb.agents.ports import Ports, Uplinked, Xdp, directed
from cloudlb.engines.base import HostPort, PortKind
from cloudlb.engines.memory import MemoryEngine
from cloudlb.model.errors import EngineError
from cloudlb.model.ether import Mac
from cloudlb.model.host import Role
from cloudlb.model.network import Address
from cloudlb.net.link import Link
from tests.planes import NETWORK
from tests.views import LAN, view

OTHER = 8
BRIDGE = Link(2, "br0", Mac("02:00:00:00:00:02"), kind="bridge")
UNMAPPED = Link(3, "br9", Mac("02:00:00:00:00:03"), kind="bridge")
SECOND = Link(4, "br1", Mac("02:00:00:00:00:04"), kind="bridge")
TAP = Link(10, "tap10", Mac("fe:54:00:00:00:10"), BRIDGE.index, "tun")
TAP_PORT = HostPort(TAP.index, PortKind.TAP, NETWORK, TAP.mac)
UPLINK_PORT = HostPort(BRIDGE.index, PortKind.UPLINK, NETWORK, BRIDGE.mac)


class Kernel(MemoryEngine):
    """Remembers what was asked of it; can refuse."""

    def __init__(self, *earlier: HostPort) -> None:
        super().__init__()
        self.carried: dict[int, HostPort] = {}
        self.asked: list[tuple[str, int]] = []
        self.refuses = False
        for port in earlier:
            self.attach(port)
        self.asked.clear()

    def attach(self, port: HostPort) -> None:
        if self.refuses:
            raise EngineError("no such device")
        self.asked.append(("attach", port.index))
        self.carried[port.index] = port
        super().attach(port)

    def detach(self, index: int) -> None:
        self.asked.append(("detach", index))
        self.carried.pop(index, None)
        super().detach(index)


class Host:
    """Ports of a host that maps ``lan`` to br0 and ``lan2`` to br1."""

    def __init__(self, *roles: Role, kernel: Kernel | None = None, xdp: Xdp = Xdp.AUTO) -> None:
        self.kernel = kernel or Kernel()
        self.addresses: dict[int, list[Address]] = {}
        self.changes = 0
        self.ports = Ports(
            {"lan": "br0", "lan2": "br1"},
            frozenset(roles),
            self.kernel,
            threading.RLock(),
            self._changed,
            lambda index: self.addresses.get(index, []),
            xdp,
        )

    def _changed(self) -> None:
        self.changes += 1

    def knows(self, *links: Link) -> "Host":
        """All of these links are listed, and the numbers are known."""
        for link in links:
            self.ports.link_changed(link)
        self.ports.links_listed()
        self.ports.set_numbers({"lan": NETWORK, "lan2": OTHER})
        return self

    @property
    def carried(self) -> list[HostPort]:
        return [port for _, port in sorted(self.kernel.carried.items())]


@pytest.fixture
def compute() -> Host:
    return Host(Role.COMPUTE)


@pytest.mark.parametrize(
    ("roles", "ports"),
    [
        ((Role.COMPUTE,), [TAP_PORT]),
        ((Role.DIRECTOR,), [UPLINK_PORT]),
        ((Role.DIRECTOR, Role.COMPUTE), [UPLINK_PORT, TAP_PORT]),
        ((), []),
    ],
    ids=["compute", "director", "both", "neither"],
)
def test_a_host_attaches_by_its_roles(roles: tuple[Role, ...], ports: list[HostPort]) -> None:
    assert Host(*roles).knows(BRIDGE, UNMAPPED, TAP).carried == ports


@pytest.mark.requirement("D1")
def test_a_compute_host_that_directs_pools_of_a_network_attaches_its_uplink_there() -> None:
    host = Host(Role.COMPUTE).knows(BRIDGE, SECOND, TAP)
    assert host.carried == [TAP_PORT]
    host.ports.set_numbers({"lan": NETWORK, "lan2": OTHER}, frozenset({NETWORK}))
    assert host.carried == [UPLINK_PORT, TAP_PORT]
    host.ports.set_numbers({"lan": NETWORK, "lan2": OTHER})
    assert host.carried == [TAP_PORT]


def test_the_networks_that_a_host_directs_are_those_of_its_pools() -> None:
    elsewhere = replace(LAN, number=OTHER)
    views = [view(), replace(view(number=2, directors=("c1", "d1")), network=elsewhere)]
    assert directed("d1", views) == {NETWORK, OTHER}
    assert directed("c1", views) == {OTHER}
    assert directed("c1", [replace(one, removing=True) for one in views]) == set()


@pytest.mark.parametrize(
    ("xdp", "virtual", "physical"),
    [(Xdp.AUTO, False, True), (Xdp.NEVER, False, False), (Xdp.ALWAYS, True, True)],
)
def test_a_driver_forwards_where_the_hosts_option_has_it(
    xdp: Xdp, virtual: bool, physical: bool
) -> None:
    card = replace(BRIDGE, kind="", device="0000:00:03.0")
    for link, wanted in ((BRIDGE, virtual), (card, physical)):
        host = Host(Role.DIRECTOR, Role.COMPUTE, xdp=xdp).knows(link, TAP)
        assert host.carried == [replace(UPLINK_PORT, express=wanted), TAP_PORT]


FIRST, SECOND4, OWN6 = map(ip_address, ("192.0.2.1", "192.0.2.2", "2001:db8::1"))


def test_an_uplink_knows_the_hosts_addresses_in_a_fixed_order() -> None:
    for order in ([OWN6, SECOND4, FIRST], [FIRST, OWN6, SECOND4]):
        host = Host(Role.DIRECTOR)
        host.addresses[BRIDGE.index] = order
        host.knows(BRIDGE)
        assert host.carried == [replace(UPLINK_PORT, addresses=(FIRST, SECOND4, OWN6))]


def test_an_uplink_whose_addresses_change_is_attached_anew_and_never_detached() -> None:
    host = Host(Role.DIRECTOR).knows(BRIDGE)
    host.changes = 0
    host.addresses[BRIDGE.index] = [FIRST]
    host.ports.readdressed(BRIDGE.index)
    host.ports.readdressed(BRIDGE.index)
    assert host.carried == [replace(UPLINK_PORT, addresses=(FIRST,))]
    assert host.kernel.asked == [("attach", BRIDGE.index)] * 2
    assert host.changes == 1


def test_a_missed_change_of_addresses_is_found_by_the_next_look() -> None:
    host = Host(Role.DIRECTOR).knows(BRIDGE)
    host.addresses[BRIDGE.index] = [FIRST]
    host.ports.resync()
    assert host.carried == [replace(UPLINK_PORT, addresses=(FIRST,))]


def test_addresses_of_other_links_are_nobodys_business(compute: Host) -> None:
    compute.knows(BRIDGE, TAP)
    compute.kernel.asked.clear()
    for index in (TAP.index, 77):
        compute.addresses[index] = [FIRST]
        compute.ports.readdressed(index)
    assert compute.kernel.asked == []


@pytest.mark.parametrize("role", [Role.DIRECTOR, Role.COMPUTE])
def test_a_change_of_the_mtu_is_told_to_the_programs(role: Role) -> None:
    host = Host(role).knows(BRIDGE, TAP)
    for link in (BRIDGE, TAP):
        host.ports.link_changed(replace(link, mtu=9000))
    assert [port.mtu for port in host.carried] == [9000]
    assert "detach" not in {verb for verb, _ in host.kernel.asked}


def test_only_taps_of_mapped_bridges_are_attached(compute: Host) -> None:
    stranger = replace(TAP, index=11, name="tap11", master=UNMAPPED.index)
    alone = replace(TAP, index=12, name="tap12", master=0)
    veth = replace(TAP, index=13, name="veth13", kind="veth")
    compute.knows(BRIDGE, UNMAPPED, TAP, stranger, alone, veth)
    assert compute.carried == [TAP_PORT]


def test_a_network_without_a_number_is_left_alone(compute: Host) -> None:
    compute.knows(BRIDGE, SECOND, replace(TAP, master=SECOND.index))
    compute.ports.set_numbers({"lan": NETWORK})
    assert compute.carried == []


def test_a_tap_that_comes_later_is_attached_at_once(compute: Host) -> None:
    compute.knows(BRIDGE)
    compute.ports.link_changed(TAP)
    assert compute.carried == [TAP_PORT]


def test_a_bridge_that_comes_after_its_taps_has_them_attached(compute: Host) -> None:
    compute.knows(TAP)
    assert compute.carried == []
    compute.ports.link_changed(BRIDGE)
    assert compute.carried == [TAP_PORT]


class TestEarlierAgent:
    """What an earlier agent attached stays until it is certain that nobody wants it."""

    GONE = HostPort(99, PortKind.TAP, NETWORK, Mac("fe:54:00:00:00:99"))

    @pytest.fixture
    def kernel(self) -> Kernel:
        return Kernel(TAP_PORT, self.GONE)

    @pytest.fixture
    def host(self, kernel: Kernel) -> Host:
        return Host(Role.COMPUTE, kernel=kernel)

    def test_stays_while_the_numbers_are_unknown(self, host: Host) -> None:
        host.ports.link_changed(BRIDGE)
        host.ports.link_changed(TAP)
        host.ports.links_listed()
        host.ports.reconcile()
        assert host.kernel.asked == []

    def test_stays_while_links_are_being_listed(self, host: Host) -> None:
        host.ports.set_numbers({"lan": NETWORK, "lan2": OTHER})
        host.ports.link_changed(BRIDGE)
        host.ports.reconcile()
        assert host.kernel.asked == []

    @pytest.mark.parametrize("numbers_first", [True, False])
    def test_goes_when_both_are_known(self, host: Host, numbers_first: bool) -> None:
        steps = [
            host.ports.links_listed,
            lambda: host.ports.set_numbers({"lan": NETWORK, "lan2": OTHER}),
        ]
        host.ports.link_changed(BRIDGE)
        host.ports.link_changed(TAP)
        for step in reversed(steps) if numbers_first else steps:
            assert ("detach", 99) not in host.kernel.asked
            step()
        assert host.carried == [TAP_PORT]
        assert ("detach", TAP.index) not in host.kernel.asked


@pytest.fixture
def carrying(compute: Host) -> Host:
    """A compute host whose tap carries programs."""
    compute.knows(BRIDGE, UNMAPPED, SECOND, TAP)
    compute.kernel.asked.clear()
    compute.changes = 0
    return compute


def test_a_tap_that_is_gone_is_forgotten(carrying: Host) -> None:
    carrying.ports.link_gone(TAP.index)
    assert carrying.carried == []
    assert carrying.ports.tap(TAP.name) is None


def test_a_new_tap_with_the_number_of_an_old_one_is_attached_anew(carrying: Host) -> None:
    carrying.ports.link_gone(TAP.index)
    carrying.ports.link_changed(TAP)
    assert carrying.kernel.asked == [("detach", TAP.index), ("attach", TAP.index)]
    assert carrying.carried == [TAP_PORT]


def test_a_tap_that_came_and_went_while_links_were_listed_is_attached_anew() -> None:
    host = Host(Role.COMPUTE)
    host.ports.set_numbers({"lan": NETWORK})
    host.ports.link_changed(BRIDGE)
    host.ports.link_changed(TAP)
    host.kernel.detach(TAP.index)  # the kernel did, with the interface
    host.ports.link_gone(TAP.index)
    host.ports.link_changed(TAP)
    host.ports.links_listed()
    assert host.carried == [TAP_PORT]


def test_another_guests_tap_in_place_of_the_old_is_told_to_the_engine(carrying: Host) -> None:
    other = replace(TAP, name="tap11", mac=Mac("fe:54:00:00:00:11"))
    carrying.ports.link_changed(other)
    assert carrying.carried == [replace(TAP_PORT, mac=other.mac)]


def test_a_tap_that_leaves_its_bridge_is_let_go(carrying: Host) -> None:
    carrying.ports.link_changed(replace(TAP, master=0))
    assert carrying.carried == []


def test_a_tap_that_moves_to_an_unmapped_bridge_is_let_go(carrying: Host) -> None:
    carrying.ports.link_changed(replace(TAP, master=UNMAPPED.index))
    assert carrying.carried == []


def test_a_tap_that_moves_to_another_network_gets_its_number(carrying: Host) -> None:
    carrying.ports.link_changed(replace(TAP, master=SECOND.index))
    assert carrying.carried == [replace(TAP_PORT, network=OTHER)]


def test_a_renamed_tap_stays_attached_and_is_found_by_its_new_name(carrying: Host) -> None:
    carrying.ports.link_changed(replace(TAP, name="web1"))
    assert carrying.kernel.asked == []
    assert carrying.ports.tap("web1") == replace(TAP, name="web1")
    assert carrying.ports.tap(TAP.name) is None


def test_a_bridge_that_takes_the_mapped_name_has_its_taps_attached(carrying: Host) -> None:
    guest = replace(TAP, index=11, name="tap11", master=UNMAPPED.index)
    carrying.ports.link_changed(guest)
    carrying.ports.link_changed(replace(BRIDGE, name="old0"))
    carrying.ports.link_changed(replace(UNMAPPED, name="br0"))
    assert [port.index for port in carrying.carried] == [guest.index]


def test_a_bridge_that_loses_the_mapped_name_has_its_taps_let_go(carrying: Host) -> None:
    carrying.ports.link_changed(replace(BRIDGE, name="old0"))
    assert carrying.carried == []


def test_a_network_that_gets_another_number_is_told_to_the_engine(carrying: Host) -> None:
    carrying.ports.set_numbers({"lan": 99})
    assert carrying.carried == [replace(TAP_PORT, network=99)]


def test_a_network_that_is_gone_lets_its_taps_go(carrying: Host) -> None:
    carrying.ports.set_numbers({"lan2": OTHER})
    assert carrying.carried == []


def test_what_did_not_change_asks_nothing_of_the_kernel(carrying: Host) -> None:
    carrying.ports.link_changed(TAP)
    carrying.ports.set_numbers({"lan": NETWORK, "lan2": OTHER})
    carrying.ports.reconcile()
    assert carrying.kernel.asked == []
    assert carrying.changes == 0


def test_programs_that_somebody_took_off_an_interface_are_put_back(carrying: Host) -> None:
    del carrying.kernel.carried[TAP.index]
    carrying.ports.resync()
    assert carrying.carried == [TAP_PORT]


def test_looking_again_is_no_news(carrying: Host, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cloudlb.agents.ports")
    carrying.ports.resync()
    assert carrying.carried == [TAP_PORT]
    assert (caplog.records, carrying.changes) == ([], 0)


def test_changes_are_told_to_the_inventory(carrying: Host) -> None:
    carrying.ports.link_changed(replace(TAP, name="web1"))
    carrying.ports.link_gone(TAP.index)
    assert carrying.changes == 2


def test_a_refusal_is_tried_again_in_every_round_and_told_once(
    compute: Host, caplog: pytest.LogCaptureFixture
) -> None:
    compute.kernel.refuses = True
    compute.knows(BRIDGE, TAP)
    for _ in range(3):
        compute.ports.again()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    compute.kernel.refuses = False
    compute.ports.again()
    assert compute.carried == [TAP_PORT]
    compute.kernel.asked.clear()
    compute.ports.again()
    assert compute.kernel.asked == []


def test_one_refusal_holds_up_no_other_interface(carrying: Host) -> None:
    carrying.kernel.refuses = True
    carrying.ports.link_changed(replace(TAP, index=11, name="tap11"))
    carrying.ports.link_gone(TAP.index)
    assert carrying.carried == []


class TestQuestions:
    def test_uplinks_are_the_mapped_interfaces_that_exist(self, carrying: Host) -> None:
        assert carrying.ports.uplinks() == (Uplinked("lan", BRIDGE), Uplinked("lan2", SECOND))
        carrying.ports.link_gone(SECOND.index)
        assert carrying.ports.uplinks() == (Uplinked("lan", BRIDGE),)

    def test_an_uplink_is_found_by_its_networks_number(self, carrying: Host) -> None:
        assert carrying.ports.uplink_of(OTHER) == SECOND
        assert carrying.ports.uplink_of(99) is None

    def test_no_uplink_is_found_before_numbers_are_known(self, compute: Host) -> None:
        compute.ports.link_changed(BRIDGE)
        assert compute.ports.uplink_of(NETWORK) is None

    def test_a_taps_network_is_that_of_the_bridge_that_it_is_in(self, carrying: Host) -> None:
        assert carrying.ports.network_of(TAP, "br1") == "lan"
        assert carrying.ports.network_of(replace(TAP, master=UNMAPPED.index), "br0") == ""

    def test_the_network_of_a_guest_that_is_off_is_that_of_its_bridge(
        self, carrying: Host
    ) -> None:
        assert carrying.ports.network_of(None, "br1") == "lan2"
        assert carrying.ports.network_of(None, "br9") == ""
