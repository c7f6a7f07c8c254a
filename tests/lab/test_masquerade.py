# SPDX-License-Identifier: Apache-2.0
"""Guests that reach others by the director, under the pool's address."""

import contextlib
import sys
from collections.abc import Iterator

import pytest

from cloudlb.lab.lab import Lab
from cloudlb.lab.load import harm
from cloudlb.lab.topology import HOSTS
from cloudlb.lab.traffic import Load
from tests.lab.control import PORTS, Cloud, url, wait_until
from tests.lab.test_director_nat import forwarding, routed
from tests.lab.test_nat import own_address, translated
from tests.soak import choose

pytestmark = pytest.mark.usefixtures("fresh_ports")
CLIENT, DIRECTOR = (next(s for s in HOSTS if s.name == n) for n in ("client", "director"))
LISTENS = 8081
SERVER = f"""import socket
listening = socket.create_server(("", {LISTENS}), family=socket.AF_INET6, dualstack_ipv6=True)
print("listening", flush=True)
while True:
    connection, peer = listening.accept()
    with connection:
        connection.sendall(peer[0].removeprefix("::ffff:").encode() + b"\\n")
"""


@pytest.fixture
def server(lab: Lab) -> Iterator[None]:
    """The client tells who connects to it who that is."""
    process = lab.host("client").popen([sys.executable, "-c", SERVER], stdout=-1)
    assert process.stdout
    assert process.stdout.readline() == b"listening\n"
    yield
    process.terminate()
    process.communicate(timeout=10)


@pytest.fixture
def by_director(lab: Lab) -> Iterator[None]:
    """Guests reach the client by the director."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(forwarding(lab.host("director")))
        for gateway in (DIRECTOR.lan4, DIRECTOR.lan6):
            stack.enter_context(routed(lab, str(gateway)))
        yield


def seen_of(lab: Lab, guest: str, version: int) -> str:
    """What the client's server takes a guest for."""
    client = str(CLIENT.lan6 if version == 6 else CLIENT.lan4)
    command = f"nc -w 5 {client} {LISTENS} </dev/null"
    return lab.guest(guest).run(["sh", "-c", command]).stdout.strip()


@pytest.mark.requirement("L22")
@pytest.mark.parametrize(
    ("way", "version"), choose([("director", 4), ("full", 6)], [("director", 6), ("full", 4)])
)
def test_others_see_the_pools_address_and_answer_it(
    lab: Lab, cloud: Cloud, server: None, by_director: None, way: str, version: int
) -> None:
    pool = translated(cloud, ["vm1", "vm3"], version, translation=way, ports=PORTS)
    for guest in ("vm1", "vm3"):
        assert seen_of(lab, guest, version) == own_address(lab, guest, version)
    with Load.flows(lab, pool["address"], 6, interval=0.2) as load:
        cloud.change(pool, "PATCH", "", {"pool": {"masquerade": True}})
        for guest in ("vm1", "vm3", "vm1"):
            assert seen_of(lab, guest, version) == pool["address"]
        assert seen_of(lab, "vm2", version) == own_address(lab, "vm2", version)
        assert Load.count(lab, url(pool), 10)["servers"] == {"vm1": 5, "vm3": 5}
    assert not harm(load.result), load.result
    cloud.change(pool, "PATCH", "", {"pool": {"masquerade": False}})
    for guest in ("vm1", "vm3"):
        assert seen_of(lab, guest, version) == own_address(lab, guest, version)


@pytest.mark.requirement("L18")
@pytest.mark.requirement("L22")
def test_it_goes_on_while_the_directors_agent_is_dead(
    lab: Lab, cloud: Cloud, server: None, by_director: None
) -> None:
    fields = {"translation": "full", "masquerade": True}
    pool = translated(cloud, ["vm1"], **fields)
    agent = lab.host("director").service("agent")
    agent.kill()
    try:
        assert seen_of(lab, "vm1", 4) == pool["address"]
    finally:
        agent.start()
        lab.wait_agent("director")
    wait_until("it still does", lambda: seen_of(lab, "vm1", 4) == pool["address"])
