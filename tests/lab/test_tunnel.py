# SPDX-License-Identifier: Apache-2.0
"""Real clients reach real guests through tunnels of every combination of families."""

import json
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest

from cloudlb.lab.hypervisor import virsh
from cloudlb.lab.lab import Lab
from cloudlb.lab.load import harm
from cloudlb.lab.topology import VIP_RANGE4, VIP_RANGE6
from cloudlb.lab.traffic import Load
from tests.lab.control import TCP_MONITOR, Cloud, ask_udp, get, url, wait_until
from tests.lab.wire import Capture, make_known, taps, without_offloads
from tests.soak import choose

ALL = ["vm1", "vm2", "vm3", "vm4"]
CHOSEN = pytest.mark.parametrize("version", choose([4], [6]))
WAYS = pytest.mark.parametrize(
    ("inner", "outer"),
    choose([(4, 6), (6, 4)], [(4, 4), (6, 6)]),
    ids=lambda version: f"v{version}",
)
OVERHEAD = {4: 20, 6: 40}
GUESTS_BLOCK = {4: "10.60.0.8/29", 6: "fd60::10/124"}
"""The guests' own addresses of a family; in the range of pools they are nobody's own."""
BODY = bytes(i % 251 for i in range(251)) * 12000


@pytest.fixture
def known(lab: Lab, cloud: Cloud) -> Cloud:
    """The cloud, to which all guests' own addresses are known."""
    make_known(lab, cloud)
    return cloud


@contextmanager
def own_addresses(cloud: Cloud, version: int) -> Iterator[None]:
    """Only guests' addresses of one family count as their own."""
    ranges = [str(VIP_RANGE4), str(VIP_RANGE6)]
    path = f"/networks/{cloud.network}"
    other = GUESTS_BLOCK[6 if version == 4 else 4]
    cloud.ok("PATCH", path, {"network": {"vip_range": [*ranges, other]}})
    try:
        yield
    finally:
        cloud.clean()
        cloud.ok("PATCH", path, {"network": {"vip_range": ranges}})


def tunnelled(
    cloud: Cloud, members: list[str], version: int, outer: int | None = None, **fields: Any
) -> dict[str, Any]:
    """A pool behind tunnels; clients remember what they were told of an address's tunnel."""
    block = VIP_RANGE4 if version == 4 else VIP_RANGE6
    address = str(block[40 + (outer or version)])
    return cloud.pool(members, version, data_plane="tun", address=address, **fields)


def events(cloud: Cloud, lab: Lab) -> dict[str, int]:
    """What the director has counted, read from its map."""
    program = (
        "import json\n"
        "from pathlib import Path\n"
        "from cloudlb.net.bpf.layout import COUNT, Event\n"
        "from cloudlb.net.bpf.libbpf import Libbpf\n"
        "from cloudlb.net.bpf.maps import PerCpuMap\n"
        "(pin,) = Path('/sys/fs/bpf').glob('**/maps-*/events')\n"
        "seen = PerCpuMap(Libbpf(), pin, COUNT)\n"
        "print(json.dumps({e.name.lower(): seen.total(e).value for e in Event}))\n"
    )
    done = lab.host("director").run([sys.executable, "-c", program])
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@WAYS
@pytest.mark.requirement("L1")
@pytest.mark.requirement("L15")
def test_requests_and_datagrams_go_round_robin(
    lab: Lab, known: Cloud, inner: int, outer: int
) -> None:
    with own_addresses(known, outer):
        pool = tunnelled(known, ALL, inner, outer)
        assert Load.count(lab, url(pool), 40)["order"] == ALL * 10
        assert ask_udp(lab, pool, 8) == ALL * 2


@pytest.mark.requirement("L12")
@pytest.mark.parametrize(
    ("inner", "outer", "offloads"),
    choose(
        [(4, 4, "on"), (6, 6, "off"), (4, 6, "off"), (6, 4, "on")],
        [(4, 4, "off"), (6, 6, "on"), (4, 6, "on"), (6, 4, "off")],
    ),
)
def test_large_bodies_arrive_whole_in_both_directions(
    lab: Lab, known: Cloud, inner: int, outer: int, offloads: str
) -> None:
    client = lab.host("client")
    (client.root / "run/body").write_bytes(BODY)
    devices: AbstractContextManager[None] = (
        without_offloads(lab) if offloads == "off" else nullcontext()
    )
    with own_addresses(known, outer), devices:
        pool = tunnelled(known, ["vm1", "vm3"], inner, outer)
        before = events(known, lab)
        for server in ("vm1", "vm3"):
            told = json.loads(_curl(lab, "--data-binary", "@/run/body", url(pool)))
            expected = {"server": server, "length": len(BODY), "crc32": zlib.crc32(BODY)}
            assert told == expected
        for _ in range(2):
            _curl(lab, "-o", "/run/down", f"{url(pool)}bytes/{len(BODY)}")
            assert (client.root / "run/down").read_bytes() == BODY
        after = events(known, lab)
    assert after["too_big"] == before["too_big"], "segments fitted from the start"
    assert after["no_tunnel"] == before["no_tunnel"]


def _curl(lab: Lab, *arguments: str) -> str:
    return lab.host("client").run(["curl", "-s", "-S", "-m", "50", *arguments]).stdout


@WAYS
@pytest.mark.requirement("L12")
def test_a_client_learns_how_large_its_datagrams_may_be(
    lab: Lab, known: Cloud, inner: int, outer: int
) -> None:
    with own_addresses(known, outer):
        pool = tunnelled(known, ["vm2"], inner, outer)
        learned = lab.host("client").run(
            [sys.executable, "-c", _ASK_MTU, pool["address"], str(inner)], timeout=30
        )
    assert json.loads(learned.stdout) == {"mtu": 1500 - OVERHEAD[outer], "server": "vm2"}


_ASK_MTU = """
import errno, json, socket, sys
address, version = sys.argv[1], int(sys.argv[2])
s = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
level, discover, mtu = (0, 10, 14) if version == 4 else (41, 23, 24)
header = 28 if version == 4 else 48
s.setsockopt(level, discover, 2)
s.settimeout(5)
s.connect((address, 7))
s.send(bytes(1500 - header))
try:
    s.recv(2000)
    raise SystemExit("a packet passed that is too large")
except OSError as error:
    if error.errno != errno.EMSGSIZE:
        raise
most = s.getsockopt(level, mtu)
s.send(b"x" * (most - header))
print(json.dumps({"mtu": most, "server": s.recv(2000).decode().split()[0]}))
"""


@WAYS
@pytest.mark.requirement("L15")
def test_the_guest_gets_what_the_client_sent(
    lab: Lab, known: Cloud, inner: int, outer: int
) -> None:
    compute = lab.host("compute1")
    with own_addresses(known, outer), without_offloads(lab):
        pool = tunnelled(known, ["vm1"], inner, outer)
        address = pool["address"]
        with (
            Capture(lab.host("client"), address, "eth0") as client,
            Capture(compute, address, *taps(compute)) as guest,
            Capture(compute, address, "eth0") as link,
        ):
            assert get(lab, pool) == "vm1"
    packets = _towards(client.frames, lab.host("director").spec.lan_mac)
    assert len(packets) >= 5
    assert sorted(_towards(guest.frames, lab.guest("vm1").spec.mac)) == sorted(packets)
    outside = _towards(link.frames, lab.guest("vm1").spec.mac)
    assert sorted(p[OVERHEAD[outer] :] for p in outside) == sorted(packets)
    assert {p[0] >> 4 for p in outside} == {outer}


def _towards(frames: list[bytes], mac: str) -> list[bytes]:
    """The IP packets to an Ethernet address."""
    packets = [f[14:] for f in frames if f[:6].hex(":") == mac and f[12:14] != b"\x08\x06"]
    return [p for p in packets if not (p[0] >> 4 == 6 and p[6] == 58)]  # no neighbour discovery


@CHOSEN
@pytest.mark.requirement("L13")
def test_a_member_that_hangs_is_found_through_the_tunnel(
    lab: Lab, known: Cloud, version: int
) -> None:
    pool = tunnelled(known, ["vm1", "vm3"], version, monitor=TCP_MONITOR)
    wait_until("both are online", lambda: _healths(known, pool) == {"online"})
    virsh(lab.host("compute1"), "suspend", "vm1")
    try:
        time.sleep(TCP_MONITOR["interval"] * TCP_MONITOR["fall"] + 1)
        result = Load.count(lab, url(pool), 10)
        assert (result["failed"], result["servers"]) == (0, {"vm3": 10})
        assert "TCPSynRetrans" not in result["resent"], "a SYN went to the dead member"
    finally:
        virsh(lab.host("compute1"), "resume", "vm1")
    wait_until("it serves again", lambda: get(lab, pool) == "vm1")


def _healths(cloud: Cloud, pool: dict[str, Any]) -> set[str]:
    return {m["health"] for m in cloud.members(pool).values()}


@CHOSEN
@pytest.mark.requirement("L13")
def test_echo_probes_go_through_the_tunnel_too(lab: Lab, known: Cloud, version: int) -> None:
    monitor = TCP_MONITOR | {"type": "icmp"}
    pool = tunnelled(known, ["vm2", "vm4"], version, monitor=monitor)
    wait_until("both are online", lambda: _healths(known, pool) == {"online"})
    length = 128 if version == 6 else 32
    gone = f"{pool['address']}/{length}"
    lab.guest("vm4").run(["ip", "address", "del", gone, "dev", "eth0"])
    wait_until(
        "without the pool's address it is offline",
        lambda: known.members(pool)["vm4"]["health"] == "offline",
    )


@CHOSEN
def test_a_director_that_knows_no_neighbour_loses_no_request(
    lab: Lab, known: Cloud, version: int
) -> None:
    pool = tunnelled(known, ALL, version)
    for _ in range(5):
        lab.host("director").run(["ip", "neigh", "flush", "all"])
        result = Load.count(lab, url(pool), 4)
        assert (result["failed"], result["order"]) == (0, ALL)


@CHOSEN
@pytest.mark.requirement("L9")
def test_members_are_removed_and_added_under_live_connections(
    lab: Lab, known: Cloud, version: int
) -> None:
    pool = tunnelled(known, ALL, version)
    with Load.flows(lab, pool["address"], 20, interval=0.2) as load:
        for name in ("vm1", "vm3"):
            member = known.members(pool)[name]
            known.ok("DELETE", f"/pools/{pool['id']}/members/{member['id']}")
            wait_until(f"new requests avoid {name}", lambda name=name: _avoided(lab, pool, name))
        known.change(pool, "POST", "/members", {"member": {"server": "vm1"}})
        assert "vm1" in Load.count(lab, url(pool), 6)["servers"]
    assert not harm(load.result), load.result


def _avoided(lab: Lab, pool: dict[str, Any], name: str) -> bool:
    return name not in Load.count(lab, url(pool), 4)["servers"]


def test_a_member_whose_address_is_not_known_waits_for_it(lab: Lab, known: Cloud) -> None:
    """Its host has forgotten what the guest said: the tap is a new one after a restart."""
    guest = lab.guest("vm2")
    guest.destroy()
    guest.start()
    pool = tunnelled(known, ["vm1", "vm2"], 4)
    lab.host("client").run(["ping", "-c", "1", "-W", "10", str(guest.spec.ipv4)])
    wait_until(
        "the guest that was heard serves",
        lambda: set(Load.count(lab, url(pool), 4)["servers"]) == {"vm1", "vm2"},
    )
