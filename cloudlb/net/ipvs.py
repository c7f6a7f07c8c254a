# SPDX-License-Identifier: Apache-2.0
"""LVS in the kernel (ip_vs) by generic netlink: virtual servers, and real servers behind them.

All methods raise OSError when the kernel refuses, also where it has no ip_vs.
"""

import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

from pyroute2 import IPVS, IPVSDest, IPVSService
from pyroute2.netlink.exceptions import NetlinkError

from cloudlb.model.network import Address

_PERSISTENT, _ALL_FLAGS = 0x0001, 0xFFFFFFFF  # IP_VS_SVC_F_PERSISTENT (linux/ip_vs.h)
_SET_TIMEOUT = 64 + 1024 + 64 + 10  # IP_VS_SO_SET_TIMEOUT
_TIMEOUTS = struct.Struct("iii")
_CONNECTIONS = Path("/proc/thread-self/net/ip_vs_conn")
_PROTOCOLS = {"TCP": socket.IPPROTO_TCP, "UDP": socket.IPPROTO_UDP}


class Method(IntEnum):
    """How packets are forwarded (IP_VS_CONN_F_… of linux/ip_vs.h)."""

    MASQUERADE = 0
    LOCAL = 1
    TUNNEL = 2
    DIRECT_ROUTE = 3


class Virtual(NamedTuple):
    """A virtual server's name: ``protocol`` is a number of IP's."""

    address: Address
    protocol: int
    port: int


@dataclass(frozen=True, slots=True)
class Service:
    """What a virtual server does. ``persistence`` in seconds, 0 for none, for clients that are
    equal in the first ``prefix`` bits.
    """

    scheduler: str
    persistence: int = 0
    prefix: int = 0


@dataclass(frozen=True, slots=True)
class Server:
    """A real server; ``port`` is None where it is the virtual server's."""

    method: Method
    weight: int
    port: int | None = None


@dataclass(frozen=True, slots=True)
class Counters:
    """Since a real server was added; ``active`` connections are established."""

    connections: int
    packets: int
    octets: int
    active: int
    inactive: int


class Connection(NamedTuple):
    """A connection that ip_vs knows, its state as the kernel writes it, seconds to its end."""

    client: Address
    client_port: int
    virtual: Virtual
    server: Address
    state: str
    left: int


class VirtualServers:
    """The table of this network namespace."""

    def __init__(self) -> None:
        with _refusals():
            self._channel = IPVS()

    def close(self) -> None:
        """Let go of the socket."""
        self._channel.close()

    def services(self) -> dict[Virtual, Service]:
        """All virtual servers but those by firewall mark."""
        with _refusals():
            found = [m.get_attr("IPVS_CMD_ATTR_SERVICE") for m in self._channel.service("dump")]
        return {
            _virtual(one): _service(one) for one in found if one.get_attr("IPVS_SVC_ATTR_ADDR")
        }

    def servers(self, virtual: Virtual) -> dict[Address, tuple[Server, Counters]]:
        """The real servers of a virtual one, in the order in which they were added."""
        with _refusals():
            dumped = list(self._channel.dest("dump", service=_named(virtual)))
        found = [m.get_attr("IPVS_CMD_ATTR_DEST") for m in dumped]
        return {_address(one): (_server(one, virtual), _counters(one)) for one in reversed(found)}

    def put_service(self, virtual: Virtual, service: Service, *, is_new: bool) -> None:
        """Add a virtual server, or change it."""
        with _refusals():
            self._channel.service("add" if is_new else "set", _named(virtual, service))

    def remove_service(self, virtual: Virtual) -> None:
        """Remove a virtual server, and with it those behind it."""
        with _refusals():
            self._channel.service("del", _named(virtual))

    def put_server(
        self, virtual: Virtual, address: Address, server: Server, *, is_new: bool
    ) -> None:
        """Add a real server, or change it: its connections stay."""
        with _refusals():
            action = "add" if is_new else "set"
            self._channel.dest(action, _named(virtual), _real(virtual, address, server))

    def remove_server(self, virtual: Virtual, address: Address, server: Server) -> None:
        """Remove a real server; what comes of its connections is dropped."""
        with _refusals():
            self._channel.dest("del", _named(virtual), _real(virtual, address, server))

    def set_timeouts(self, established: int, closing: int, udp: int) -> None:
        """Seconds without a packet until connections are forgotten, of all virtual servers."""
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as channel:
            values = _TIMEOUTS.pack(established, closing, udp)
            channel.setsockopt(socket.IPPROTO_IP, _SET_TIMEOUT, values)

    def connections(self) -> Iterator[Connection]:
        """All connections by TCP and UDP."""
        for line in _CONNECTIONS.read_text().splitlines()[1:]:
            if found := _connection(line.split()):
                yield found


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        if error.code == errno.ENOENT and "family" in str(error).lower():
            raise OSError(errno.ENOENT, "the kernel has no ip_vs: modprobe ip_vs") from error
        raise OSError(error.code, f"ip_vs: {error}") from error


def _named(virtual: Virtual, service: Service | None = None) -> IPVSService:
    named: dict[str, Any] = {
        "addr": str(virtual.address),
        "port": virtual.port,
        "protocol": virtual.protocol,
    }
    if service is None:
        return IPVSService(**named)
    mask = service.prefix if service.persistence else virtual.address.max_prefixlen
    return IPVSService(
        **named,
        sched_name=service.scheduler,
        timeout=service.persistence,
        flags={"flags": _PERSISTENT if service.persistence else 0, "mask": _ALL_FLAGS},
        netmask=_netmask(virtual.address.version, mask),
    )


def _netmask(version: int, prefix: int) -> str:
    """IPv4's mask; of IPv6 the prefix as a number in the host's order, in the same four octets."""
    octets = prefix.to_bytes(4, "little") if version == 6 else _mask4(prefix)
    return socket.inet_ntoa(octets)


def _mask4(prefix: int) -> bytes:
    return (0xFFFFFFFF << 32 - prefix & 0xFFFFFFFF).to_bytes(4)


def _real(virtual: Virtual, address: Address, server: Server) -> IPVSDest:
    return IPVSDest(
        addr=str(address),
        port=server.port or virtual.port,
        weight=server.weight,
        fwd_method=int(server.method),
    )


def _virtual(one: Any) -> Virtual:
    return Virtual(
        ip_address(one.get_attr("IPVS_SVC_ATTR_ADDR")),
        one.get_attr("IPVS_SVC_ATTR_PROTOCOL"),
        one.get_attr("IPVS_SVC_ATTR_PORT"),
    )


def _service(one: Any) -> Service:
    flags = one.get_attr("IPVS_SVC_ATTR_FLAGS")["flags"]
    scheduler = one.get_attr("IPVS_SVC_ATTR_SCHED_NAME")
    if not flags & _PERSISTENT:
        return Service(scheduler)
    octets = socket.inet_aton(one.get_attr("IPVS_SVC_ATTR_NETMASK"))
    is_ipv6 = one.get_attr("IPVS_SVC_ATTR_AF") == socket.AF_INET6
    prefix = int.from_bytes(octets, "little") if is_ipv6 else int.from_bytes(octets).bit_count()
    return Service(scheduler, one.get_attr("IPVS_SVC_ATTR_TIMEOUT"), prefix)


def _address(one: Any) -> Address:
    return ip_address(one.get_attr("IPVS_DEST_ATTR_ADDR"))


def _server(one: Any, virtual: Virtual) -> Server:
    method = one.get_attr("IPVS_DEST_ATTR_FWD_METHOD") & 7  # IP_VS_CONN_F_FWD_MASK
    port = one.get_attr("IPVS_DEST_ATTR_PORT")
    own = None if port == virtual.port else port
    return Server(Method(method), one.get_attr("IPVS_DEST_ATTR_WEIGHT"), own)


def _counters(one: Any) -> Counters:
    stats = one.get_attr("IPVS_DEST_ATTR_STATS64") or one.get_attr("IPVS_DEST_ATTR_STATS")
    return Counters(
        connections=stats.get_attr("IPVS_STATS_ATTR_CONNS"),
        packets=stats.get_attr("IPVS_STATS_ATTR_INPKTS"),
        octets=stats.get_attr("IPVS_STATS_ATTR_INBYTES"),
        active=one.get_attr("IPVS_DEST_ATTR_ACTIVE_CONNS"),
        inactive=one.get_attr("IPVS_DEST_ATTR_INACT_CONNS"),
    )


def _connection(words: list[str]) -> Connection | None:
    """Columns: protocol, client, virtual and real server with their ports, state, seconds."""
    if words[0] not in _PROTOCOLS:
        return None
    client, virtual, server = (_listed(words[at]) for at in (1, 3, 5))
    named = Virtual(virtual, _PROTOCOLS[words[0]], int(words[4], 16))
    return Connection(client, int(words[2], 16), named, server, words[7], int(words[8]))


def _listed(word: str) -> Address:
    """IPv4 addresses are hexadecimal numbers there, IPv6 ones stand in brackets."""
    return ip_address(word.strip("[]")) if ":" in word else ip_address(int(word, 16))
