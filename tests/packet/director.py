# SPDX-License-Identifier: Apache-2.0
"""A director that translates, and what clients and members say to each other through it."""

from dataclasses import replace

import pytest
from scapy.packet import Packet

from cloudlb.model.dataplane import Mode, Plane
from cloudlb.model.network import Address
from cloudlb.model.pool import Port, Protocol
from cloudlb.net.bpf.layout import Number, Session, SessionKey
from tests.packet.conftest import DROP, PASS, REDIRECTED, UPLINK_MAC, Bench
from tests.packet.edge import CLIENT_PORT, NUMBER, OWN_PORT, PORT
from tests.packet.frames import client_of, ether, ip
from tests.planes import backend, director, mac, own

MODES = pytest.mark.parametrize("mode", [Mode.NAT, Mode.FULL_NAT], ids=["nat", "full"])
FIRST, LAST = 61000, 65096
ONE_PORT = {"first_alias": 61000, "aliases": 1}


def translating(
    mode: Mode, vip: Address, *numbers: int, port: int | None = OWN_PORT, pool: int = 1
) -> Plane:
    """A pool whose director translates, to members with ports of their own."""
    members = [
        replace(backend(n), mode=mode, address=own(n, vip.version), port=port) for n in numbers
    ]
    ports = tuple(Port(protocol, PORT) for protocol in Protocol)
    return director(members, address=vip, pool=pool, ports=ports)


def configure(bench: Bench, **fields: int) -> None:
    """Change the programs' settings."""
    bench.maps.settings[Number(0)] = bench.maps.settings[Number(0)]._replace(**fields)


def sessions(bench: Bench) -> dict[SessionKey, Session]:
    """What the programs remember."""
    return dict(bench.maps.sessions.items())


def from_client(
    vip: Address, transport: Packet, client: Address | None = None, **fields: object
) -> bytes:
    """A client's frame to a pool."""
    return bytes(ether() / ip(client or client_of(vip), vip, **fields) / transport)


def to_member(source: Address, transport: Packet, number: int = NUMBER, **fields: object) -> bytes:
    """The frame that a member gets."""
    header = ip(source, own(number, source.version), **fields)
    return bytes(ether(mac(number), UPLINK_MAC) / header / transport)


def from_member(
    destination: Address, transport: Packet, number: int = NUMBER, **fields: object
) -> bytes:
    """A member's frame that it sends by the director."""
    header = ip(own(number, destination.version), destination, **fields)
    return bytes(ether(UPLINK_MAC, mac(number)) / header / transport)


def to_client(vip: Address, transport: Packet, number: int = NUMBER, **fields: object) -> bytes:
    """The frame that a client gets: its next hop is found by the host, behind the program."""
    header = ip(vip, client_of(vip), **fields)
    return bytes(ether(UPLINK_MAC, mac(number)) / header / transport)


def sent(bench: Bench, frame: bytes) -> bytes | None:
    """What the director makes of a frame and sends, None if nothing."""
    result, out = bench.run("director", frame, bench.uplink)
    assert result in (REDIRECTED, DROP)
    return out if result == REDIRECTED else None


def passes(bench: Bench, frame: bytes) -> bool:
    """Whether a frame goes to the host's own stack as it is."""
    result, out = bench.run("director", frame, bench.uplink)
    return (result, out) == (PASS, frame)


def alias_in(frame: bytes) -> int:
    """The source port of a frame without options."""
    at = 14 + (20 if frame[12] == 0x08 else 40)
    return int.from_bytes(frame[at : at + 2])


def client_as_seen(mode: Mode, vip: Address, frame: bytes) -> tuple[Address, int]:
    """What a member takes for the client."""
    if mode is Mode.NAT:
        return client_of(vip), CLIENT_PORT
    return vip, alias_in(frame)
