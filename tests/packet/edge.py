# SPDX-License-Identifier: Apache-2.0
"""A guest behind edge NAT, and what it and a client say to each other."""

from collections.abc import Callable

from hypothesis import strategies as st
from scapy.layers.inet import TCP, UDP
from scapy.packet import Packet

from cloudlb.model.network import Address
from cloudlb.net.bpf.layout import Session, SessionKey
from tests.packet.conftest import GUEST_MAC, UPLINK_MAC, Bench
from tests.packet.frames import CLIENT_MAC, client_of, ether, ip
from tests.planes import VIP4, VIP6, director, own, translated

NUMBER, PORT, OWN_PORT, CLIENT_PORT = 17, 80, 8080, 40000
POOL4, POOL6 = director(()).pool_id, director((), pool=2).pool_id
Transport = Callable[..., Packet]


def translate(bench: Bench, port: int | None = OWN_PORT) -> None:
    """Have the guest serve a pool of each family at a port of its own."""
    bench.apply(translated(NUMBER, port=port), translated(NUMBER, port=port, address=VIP6, pool=2))


def sessions(bench: Bench) -> dict[SessionKey, Session]:
    """What the programs remember."""
    return dict(bench.maps.sessions.items())


def forget(bench: Bench) -> None:
    """Have them remember nothing."""
    for key in sessions(bench):
        del bench.maps.sessions[key]


def own_of(vip: Address) -> Address:
    """The guest's own address in a family."""
    return own(NUMBER, vip.version)


def towards(
    destination: Address, transport: Packet, hardware: object = GUEST_MAC, **fields: object
) -> bytes:
    """A client's frame as the director sends it to the guest."""
    header = ip(client_of(destination), destination, **fields)
    return bytes(ether(hardware, UPLINK_MAC) / header / transport)


def answer(source: Address, transport: Packet, **fields: object) -> bytes:
    """A guest's frame to the client."""
    header = ip(source, client_of(source), **fields)
    return bytes(ether(CLIENT_MAC, GUEST_MAC) / header / transport)


def there(kind: Transport, port: int = PORT, body: bytes = b"odd", **fields: object) -> Packet:
    """What the client sends to a port."""
    return kind(**{"sport": CLIENT_PORT, "dport": port, **fields}) / body


def back(kind: Transport, port: int = PORT, body: bytes = b"answers", **fields: object) -> Packet:
    """What comes back from it."""
    flags = {"flags": "SA"} if kind is TCP else {}
    return kind(**{"sport": port, "dport": CLIENT_PORT, **flags, **fields}) / body


def opened(bench: Bench, vip: Address = VIP4, kind: Transport = TCP) -> None:
    """Have the client open a session."""
    assert bench.to_guest(towards(vip, there(kind))) == towards(own_of(vip), there(kind, OWN_PORT))


_BODIES = st.binary(max_size=80)
TRANSPORTS = st.one_of(
    st.builds(
        lambda flags, options, body: there(TCP, flags=flags, options=options, body=body),
        st.sampled_from(("S", "A", "PA", "FA", "R")),
        st.sampled_from(([], [("MSS", 1460), ("WScale", 7)], [("Timestamp", (1, 2))])),
        _BODIES,
    ),
    st.builds(lambda body: there(UDP, body=body), _BODIES),
)
"""What a client sends, of any kind."""
