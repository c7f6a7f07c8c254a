# SPDX-License-Identifier: Apache-2.0
"""What directors ask guests: by datagram and by HTTP, along the path of each data plane."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloudlb.lab.hypervisor import virsh
from cloudlb.lab.lab import Lab
from cloudlb.lab.topology import HOSTS
from cloudlb.lab.traffic import Load
from tests.certificates import Authority
from tests.lab.control import TCP_MONITOR, Cloud, url, wait_until
from tests.lab.wire import make_known
from tests.soak import choose

pytestmark = pytest.mark.requirement("L13")
FAMILIES = pytest.mark.parametrize("version", [4, 6])
BOTH = {"vm1": "online", "vm3": "online"}
PAUSE = {key: TCP_MONITOR[key] for key in ("interval", "timeout", "rise", "fall")}
UDP, HTTP = PAUSE | {"type": "udp"}, PAUSE | {"type": "http"}
CLIENT = next(spec for spec in HOSTS if spec.name == "client")
NAME = "www.example.org"


@pytest.fixture
def known(lab: Lab, cloud: Cloud) -> Cloud:
    """The cloud, to which all guests' own addresses are known."""
    make_known(lab, cloud)
    return cloud


def health(cloud: Cloud, pool: dict[str, Any]) -> dict[str, str]:
    """What probes say of the members."""
    return {name: m["health"] for name, m in cloud.members(pool).items()}


def reason(cloud: Cloud, pool: dict[str, Any], name: str) -> str:
    """Why."""
    return str(cloud.members(pool)[name]["health_reason"])


def offline(cloud: Cloud, pool: dict[str, Any], name: str) -> str:
    """The reason, once the member is offline."""
    wait_until(f"{name} is offline", lambda: health(cloud, pool)[name] == "offline")
    return reason(cloud, pool, name)


def probed(cloud: Cloud, version: int, data_plane: str, monitor: dict[str, Any]) -> dict[str, Any]:
    """A pool of vm1 and vm3; behind edge NAT they do not hold its address.

    They are asked only once they hold it: the reason is that of the time when health changed.
    """
    members = [{"server": "vm1"}, {"server": "vm3"}]
    holders = [] if data_plane == "nat" else ["vm1", "vm3"]
    pool = cloud.pool(holders, version, data_plane=data_plane, members=members)
    cloud.change(pool, "PATCH", "", {"pool": {"monitor": monitor}})
    return pool


@pytest.mark.parametrize(
    ("version", "data_plane", "monitor"),
    choose(
        [(4, "dr", UDP), (6, "nat", HTTP), (4, "tun", HTTP)],
        [
            (6, "dr", UDP),
            (4, "dr", HTTP),
            (6, "dr", HTTP),
            (4, "nat", UDP),
            (6, "nat", UDP),
            (4, "nat", HTTP),
            (4, "tun", UDP),
            (6, "tun", UDP),
            (6, "tun", HTTP),
        ],
    ),
    ids=lambda value: value["type"] if isinstance(value, dict) else None,
)
def test_a_guest_that_hangs_is_found_on_the_way_of_the_traffic(
    lab: Lab, known: Cloud, version: int, data_plane: str, monitor: dict[str, Any]
) -> None:
    pool = probed(known, version, data_plane, monitor)
    wait_until("both are online", lambda: health(known, pool) == BOTH)
    virsh(lab.host("compute1"), "suspend", "vm1")
    try:
        assert "no answer" in offline(known, pool, "vm1")
        result = Load.count(lab, url(pool), 6)
        assert (result["failed"], result["servers"]) == (0, {"vm3": 6})
    finally:
        virsh(lab.host("compute1"), "resume", "vm1")
    wait_until("it is back", lambda: health(known, pool) == BOTH)


@pytest.mark.requirement("A16")
@pytest.mark.parametrize("monitor", [UDP, HTTP], ids=["udp", "http"])
def test_anycast_members_are_asked_along_the_same_path(
    lab: Lab, cloud: Cloud, monitor: dict[str, Any]
) -> None:
    pool = probed(cloud, 6, "anycast_mac", monitor)
    wait_until("both are online", lambda: health(cloud, pool) == BOTH)
    held = f"{pool['address']}/128"
    lab.guest("vm3").run(["ip", "address", "del", held, "dev", "eth0"])
    assert "no answer" in offline(cloud, pool, "vm3")
    assert Load.count(lab, url(pool), 4)["servers"] == {"vm1": 4}


@pytest.mark.parametrize(
    ("version", "data_plane"),
    choose([(4, "dr"), (6, "nat"), (6, "tun")], [(6, "dr"), (4, "nat"), (4, "tun")]),
)
def test_a_closed_udp_port_is_told_by_the_guests_kernel(
    known: Cloud, version: int, data_plane: str
) -> None:
    monitor = UDP | {"port": 9, "accept_silence": True}
    pool = probed(known, version, data_plane, monitor)
    assert "nobody at UDP port 9" in offline(known, pool, "vm1")


def test_silence_is_accepted_where_it_is_asked_for_and_the_guest_lives(
    lab: Lab, cloud: Cloud
) -> None:
    """A DHCP server says nothing to what is no DHCP."""
    settings = "interface eth0\\nstart 10.60.0.100\\nend 10.60.0.100\\nlease_file /tmp/leases\\n"
    settings += "pidfile /tmp/udhcpd.pid\\n"
    start = f"printf '{settings}' >/tmp/udhcpd.conf; touch /tmp/leases; udhcpd /tmp/udhcpd.conf"
    lab.guest("vm1").run(["sh", "-c", start])
    try:
        pool = cloud.pool(["vm1"], monitor=UDP | {"port": 67})
        assert "no answer" in offline(cloud, pool, "vm1")
        cloud.change(pool, "PATCH", "", {"pool": {"monitor": {"accept_silence": True}}})
        wait_until("it is online", lambda: health(cloud, pool) == {"vm1": "online"})
    finally:
        lab.guest("vm1").run(["sh", "-c", "kill $(cat /tmp/udhcpd.pid)"])
    wait_until("it is offline", lambda: "nobody" in offline(cloud, pool, "vm1"))


@FAMILIES
def test_what_a_good_answer_is_can_be_said(lab: Lab, cloud: Cloud, version: int) -> None:
    pool = cloud.pool(["vm1"], version)
    monitor = HTTP | {"expected_codes": "204,301-302"}
    cloud.change(pool, "PATCH", "", {"pool": {"monitor": monitor}})
    wrong = "answers with status 200, expected is 204,301-302"
    assert offline(cloud, pool, "vm1").startswith(wrong)
    cloud.change(pool, "PATCH", "", {"pool": {"monitor": {"expected_codes": "200-204"}}})
    wait_until("it is online", lambda: health(cloud, pool) == {"vm1": "online"})


@pytest.fixture
def tls(lab: Lab, tmp_path: Path) -> Iterator[Authority]:
    """The authority of a TLS server behind port 443 of vm1, which passes octets on."""
    authority = Authority()
    certificate = authority.server(tmp_path / "server.pem", NAME)
    program = (
        "import socket,ssl,sys,tempfile\n"
        "f=tempfile.NamedTemporaryFile('w'); f.write(sys.argv[1]); f.flush()\n"
        "sys.argv[1]=f.name\n"
        "c=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); c.load_cert_chain(sys.argv[1])\n"
        "listener=socket.create_server(('',8443)); print('ready',flush=True)\n"
        "while True:\n"
        "    s,_=listener.accept()\n"
        "    try:\n"
        "        s.settimeout(10); t=c.wrap_socket(s,server_side=True); t.recv(4096)\n"
        "        t.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n'); t.recv(1)\n"
        "    except OSError: pass\n"
        "    s.close()\n"
    )
    command = [sys.executable, "-c", program, certificate.read_text()]
    server = lab.host("client").popen(command, stdout=subprocess.PIPE)
    assert server.stdout
    assert server.stdout.readline() == b"ready\n"
    pass_on = (
        f"nc -ll -p 443 -e nc {CLIENT.lan4} 8443 </dev/null >/dev/null 2>&1 & echo $! >/tmp/nc.pid"
    )
    lab.guest("vm1").run(["sh", "-c", pass_on])
    yield authority
    lab.guest("vm1").run(["sh", "-c", "kill $(cat /tmp/nc.pid)"])
    server.kill()
    server.wait()


@FAMILIES
def test_a_guest_is_asked_through_tls_and_its_certificate_looked_at_on_demand(
    cloud: Cloud, tls: Authority, version: int
) -> None:
    monitor = PAUSE | {"type": "https", "interval": 2, "timeout": 2}
    ports = [{"protocol": "tcp", "port": 443}]
    pool = cloud.pool(["vm1"], version, ports=ports, monitor=monitor)
    wait_until("it is online", lambda: health(cloud, pool) == {"vm1": "online"})
    settings = {"ca": tls.pem, "sni": "shop.example.org"}
    cloud.change(pool, "PATCH", "", {"pool": {"monitor": settings}})
    assert "Hostname mismatch" in offline(cloud, pool, "vm1")
    cloud.change(pool, "PATCH", "", {"pool": {"monitor": {"sni": NAME}}})
    wait_until("it is online", lambda: health(cloud, pool) == {"vm1": "online"})
    other = Authority("other").pem
    cloud.change(pool, "PATCH", "", {"pool": {"monitor": {"ca": other}}})
    wait_until("the reason is another", lambda: "issuer" in offline(cloud, pool, "vm1"))
