# SPDX-License-Identifier: Apache-2.0
"""The engine without a kernel chooses as the requirements say."""

from ipaddress import IPv4Address, IPv6Address

import pytest

from cloudlb.engines.base import HostPort, PortKind
from cloudlb.engines.memory import Connection, MemoryEngine
from cloudlb.model.dataplane import MemberCounters
from cloudlb.model.ether import Mac
from cloudlb.model.schedule import client_hash, hash_words
from tests.planes import NETWORK, PORTS, VIP4, backend, backends, director, member_id

POOL = director(()).pool_id
CLIENT = IPv4Address("198.51.100.9")


def connection(client_port: int) -> Connection:
    return Connection(NETWORK, CLIENT, client_port, VIP4, PORTS[0])


@pytest.fixture
def engine() -> MemoryEngine:
    """An engine with a pool of three members."""
    memory = MemoryEngine()
    memory.apply(POOL, director(backends(3, 1, 2)))
    return memory


@pytest.mark.requirement("L4")
def test_connections_take_turns(engine: MemoryEngine) -> None:
    chosen = [engine.connect(connection(port)) for port in range(6)]
    assert chosen == [member_id(n) for n in (3, 1, 2)] * 2


@pytest.mark.requirement("L9")
def test_a_connection_keeps_its_member(engine: MemoryEngine) -> None:
    engine.connect(connection(1))
    engine.apply(POOL, director([backend(1), backend(3, idle=True)]))
    assert engine.connect(connection(1)) == member_id(3)


def test_a_connection_of_a_removed_member_goes_elsewhere(engine: MemoryEngine) -> None:
    engine.connect(connection(1))
    engine.apply(POOL, director(backends(1)))
    assert engine.connect(connection(1)) == member_id(1)


def test_a_closed_connection_is_chosen_anew(engine: MemoryEngine) -> None:
    engine.connect(connection(1))
    engine.close_connection(connection(1))
    assert engine.connect(connection(1)) == member_id(1)


def test_nobody_takes_what_is_for_no_pool(engine: MemoryEngine) -> None:
    assert engine.connect(Connection(NETWORK + 1, CLIENT, 1, VIP4, PORTS[0])) is None
    assert engine.connect(Connection(NETWORK, CLIENT, 1, VIP4 + 1, PORTS[0])) is None


def test_connections_are_counted(engine: MemoryEngine) -> None:
    engine.connect(connection(1))
    engine.connect(connection(2))
    engine.close_connection(connection(1))
    assert engine.counters(POOL) == (
        MemberCounters(member_id(3), connections=1, active=0),
        MemberCounters(member_id(1), connections=1, active=1),
        MemberCounters(member_id(2)),
    )


def test_interfaces_are_noted(engine: MemoryEngine) -> None:
    engine.attach(HostPort(5, PortKind.UPLINK, NETWORK, Mac("02:00:00:00:00:01")))
    assert engine.ports() == {5}
    engine.detach(5)
    engine.detach(5)
    assert engine.ports() == frozenset()


def test_an_ipv4_client_hashes_as_its_mapped_address() -> None:
    mapped = IPv6Address("::ffff:198.51.100.9")
    assert client_hash(CLIENT, 7) == client_hash(mapped, 7)
    assert client_hash(CLIENT, 7) == hash_words([0, 0, 0xFFFF0000, 0x096433C6], 7)
