# SPDX-License-Identifier: Apache-2.0
"""LVS as an engine: what the kernel's ip_vs can do of planes, on hosts that only direct.

A known way to fall back on. Its director has the pool's address on the interface, so the host's
own services are reachable by it, and the kernel's stack answers ARP and ND.
Members are reached by their own addresses. At their taps it puts nothing: their hosts have the
engine ``ebpf``, whose guard, unwrapping and edge NAT work with this director as with any.

ip_vs has no place for the owner of a virtual server. A file names the pools that this engine has
made; it is written before the kernel is asked, and what it does not name is never touched.
"""

import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from cloudlb.engines.base import Engine, HostPort, PortKind, Timeouts, asking_for
from cloudlb.model import plain
from cloudlb.model.dataplane import (
    Algorithm,
    Backend,
    Explanation,
    Flow,
    FlowState,
    Frontend,
    MemberCounters,
    Mode,
    Plane,
)
from cloudlb.model.errors import EngineError
from cloudlb.model.network import Address
from cloudlb.model.pool import Port, Protocol
from cloudlb.net import addr
from cloudlb.net.ipvs import Counters, Method, Server, Service, Virtual, VirtualServers

_SCHEDULERS = {
    Algorithm.ROUND_ROBIN: "rr",
    Algorithm.WRR_LVS: "wrr",
    Algorithm.LC_LVS: "lc",
    Algorithm.WLC_LVS: "wlc",
    Algorithm.SOURCE_HASH: "sh",
    Algorithm.MAGLEV: "mh",
}
_METHODS = {
    Mode.DR: Method.DIRECT_ROUTE,
    Mode.EDGE_NAT: Method.DIRECT_ROUTE,  # its tap translates
    Mode.TUN: Method.TUNNEL,
    Mode.NAT: Method.MASQUERADE,
}
_PROTOCOLS = {Protocol.TCP: 6, Protocol.UDP: 17}
_PROTOCOL_OF = {number: protocol for protocol, number in _PROTOCOLS.items()}
_STATES = {"ESTABLISHED": FlowState.ESTABLISHED, "UDP": FlowState.UDP}
_OPENING = ("SYN_RECV", "SYN_SENT", "NONE")

_FILE = "ipvs.json"

Servers = Mapping[Address, Server]


def has_planes(objects: Path) -> bool:
    """Whether an engine has ever written what it made."""
    return (objects / _FILE).exists()


class IpvsEngine(Engine):
    """Virtual servers for the frontends of planes. ``objects`` is a directory that may be made;
    the sizes of tables are the kernel's (module parameter ``conn_tab_bits``).
    """

    serves_guests = False

    def __init__(
        self, objects: Path, timeouts: Timeouts | None = None, **_of_other_engines: object
    ) -> None:
        limits = timeouts or Timeouts()
        self._path = objects / _FILE
        self._ports: dict[int, HostPort] = {}
        self._guarded: dict[int, frozenset[Address]] = {}
        with asking_for("ip_vs"):
            objects.mkdir(parents=True, exist_ok=True)
            self._table = VirtualServers()
            self._table.set_timeouts(int(limits.established), int(limits.closing), int(limits.udp))
            self._planes = self._load()

    @asking_for("its virtual servers")
    def observe(self) -> dict[UUID, Plane]:
        """Of what the file names, what the kernel has."""
        services = self._table.services()
        return {pool_id: self._seen(plane, services) for pool_id, plane in self._planes.items()}

    def apply(self, pool_id: UUID, plane: Plane | None) -> None:
        """Change what differs; the connections of servers that stay go on."""
        old = self._planes.get(pool_id)
        wanted = _services(plane)
        with asking_for(f"pool {pool_id}"):
            if plane is not None and plane.frontend is not None:
                self._save(self._planes | {pool_id: plane})
                self._hold(plane)
            for virtual in _services(old).keys() - wanted.keys():
                if virtual in self._table.services():
                    self._table.remove_service(virtual)
            for virtual, (service, servers) in wanted.items():
                self._write(virtual, service, servers)
            if old is not None and (plane is None or plane.frontend is None):
                self._release(old)
                self._save({p: kept for p, kept in self._planes.items() if p != pool_id})
        _complain(plane)

    def ports(self) -> frozenset[int]:
        """What was attached; nothing is put there."""
        return frozenset(self._ports)

    def attach(self, port: HostPort) -> None:
        """Have the pools' addresses of a network on its uplink."""
        if port.kind is not PortKind.UPLINK:
            raise EngineError("The engine ipvs serves no guests; ebpf does.")
        self._ports[port.index] = port
        for plane in self._planes.values():
            if plane.network == port.network:
                with asking_for(f"address {plane.address}"):
                    addr.hold(port.index, plane.address)

    def detach(self, index: int) -> None:
        """Have none of the pools' addresses there."""
        port = self._ports.pop(index, None)
        for plane in self._planes.values():
            if port and plane.network == port.network:
                with asking_for(f"address {plane.address}"):
                    addr.release(index, plane.address)

    def guard(self, network: int, addresses: Collection[Address]) -> None:
        """There are no guests that would have to be guarded."""
        self._guarded[network] = frozenset(addresses)

    def guarded(self) -> dict[int, frozenset[Address]]:
        """What was asked for."""
        return {network: found for network, found in self._guarded.items() if found}

    @asking_for("its counters")
    def counters(self, pool_id: UUID) -> tuple[MemberCounters, ...]:
        """By ip_vs, which sums them every two seconds, over all ports; answers pass elsewhere. A
        server that comes back while its old connections are known has its old counts, too.
        """
        plane = self._planes.get(pool_id)
        if plane is None or plane.frontend is None:
            return ()
        counted = [
            {address: counters for address, (_, counters) in self._table.servers(virtual).items()}
            for virtual in _services(plane).keys() & self._table.services().keys()
        ]
        return tuple(
            _sum(b.member_id, [each[b.address] for each in counted if b.address in each])
            for b in plane.frontend.backends
        )

    @asking_for("its connections")
    def flows(self, pool_id: UUID, limit: int) -> tuple[Flow, ...]:
        """From the kernel's list; how long a connection is idle follows from when it ends."""
        plane = self._planes.get(pool_id)
        found = list(self._flows(plane, limit)) if plane else []
        return tuple(found)

    def explain(self, pool_id: UUID, client: Address, client_port: int, port: Port) -> Explanation:
        """ip_vs does not tell."""
        raise EngineError(
            "LVS does not tell where it will send a packet. Ask a director with the engine ebpf, "
            "or look at `pool flows`."
        )

    def sweep(self) -> None:
        """The kernel forgets connections itself."""

    def guest_addresses(self, index: int) -> tuple[Address, ...]:
        """There are no guests."""
        return ()

    @property
    def pins(self) -> None:
        """Nobody elects by maps here."""

    def announces(self, router: int) -> bool:
        """A sole director always does, by its kernel."""
        return not router

    def events(self) -> dict[str, int]:
        """ip_vs does not count them by reason."""
        return {}

    def settle(self) -> None:
        """There are no versions."""

    def close(self) -> None:
        """What is in the kernel goes on."""
        self._table.close()

    def _seen(self, plane: Plane, services: Mapping[Virtual, Service]) -> Plane:
        """A plane without what the kernel lacks of it, so that it differs from what is wanted."""
        frontend = plane.frontend
        if frontend is None:
            return plane
        wanted = _services(plane)
        there = [v for v, (service, _) in wanted.items() if services.get(v) == service]
        found = [{a: s for a, (s, _) in self._table.servers(v).items()} for v in there]
        ports = tuple(p for p in frontend.ports if _virtual(plane, p) in there)
        backends = tuple(
            b
            for b in frontend.backends
            if b.address
            and _is_reached(plane, b)
            and all(each.get(b.address) == _server(b) for each in found)
        )
        return replace(plane, frontend=replace(frontend, ports=ports, backends=backends))

    def _write(self, virtual: Virtual, service: Service, servers: Servers) -> None:
        """To ip_vs a server at another port is another server."""
        known = self._table.services().get(virtual)
        if known != service:
            self._table.put_service(virtual, service, is_new=known is None)
        there = {address: server for address, (server, _) in self._table.servers(virtual).items()}
        for address, server in list(there.items()):
            wanted = servers.get(address)
            if wanted is None or wanted.port != server.port:
                self._table.remove_server(virtual, address, server)
                del there[address]
        for address, server in servers.items():
            if there.get(address) != server:
                self._table.put_server(virtual, address, server, is_new=address not in there)

    def _uplinks(self, network: int) -> Iterator[int]:
        return (index for index, port in self._ports.items() if port.network == network)

    def _hold(self, plane: Plane) -> None:
        for index in self._uplinks(plane.network):
            addr.hold(index, plane.address)

    def _release(self, plane: Plane) -> None:
        """Wherever it is: the interface of the network may have been another one."""
        for index in addr.holders(plane.address):
            addr.release(index, plane.address)

    def _flows(self, plane: Plane, limit: int) -> Iterator[Flow]:
        frontend = plane.frontend
        members = {b.address: b.member_id for b in frontend.backends} if frontend else {}
        ours = _services(plane).keys()
        for known in self._table.connections():
            if limit and known.virtual in ours and known.server in members:
                limit -= 1
                port = Port(_PROTOCOL_OF[known.virtual.protocol], known.virtual.port)
                state = _state(known.state)
                yield Flow(
                    known.client, known.client_port, port, members[known.server], state, 0.0
                )

    def _load(self) -> dict[UUID, Plane]:
        try:
            kept = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        planes = (plain.decode(Plane, one) for one in kept)
        return {plane.pool_id: plane for plane in planes}

    def _save(self, planes: dict[UUID, Plane]) -> None:
        if planes == self._planes:
            return
        draft = self._path.with_suffix(".tmp")
        with draft.open("w") as file:
            json.dump([plain.encode(plane) for plane in planes.values()], file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)
        self._planes = planes


def _services(plane: Plane | None) -> dict[Virtual, tuple[Service, Servers]]:
    """The virtual servers of a plane, each with its real ones."""
    if plane is None or plane.frontend is None:
        return {}
    service = _service(plane.frontend)
    servers = {
        b.address: _server(b)
        for b in plane.frontend.backends
        if b.address and _is_reached(plane, b)
    }
    return {_virtual(plane, port): (service, servers) for port in plane.frontend.ports}


def _service(frontend: Frontend) -> Service:
    """EngineError for what LVS has not."""
    if frontend.router:
        raise EngineError("The engine ipvs directs pools alone; give the pool one director.")
    scheduler = _SCHEDULERS.get(frontend.algorithm)
    if scheduler is None:
        known = ", ".join(sorted(_SCHEDULERS))
        raise EngineError(f"LVS does not schedule by {frontend.algorithm}; it has {known}.")
    wanted = frontend.persistence
    return Service(scheduler, wanted.timeout, wanted.prefix) if wanted else Service(scheduler)


def _virtual(plane: Plane, port: Port) -> Virtual:
    return Virtual(plane.address, _PROTOCOLS[port.protocol], port.port)


def _server(backend: Backend) -> Server:
    port = backend.port if backend.mode is Mode.NAT else None
    return Server(_METHODS[backend.mode], backend.weight if backend.eligible else 0, port)


def _is_reached(plane: Plane, backend: Backend) -> bool:
    """By an own address: of the pool's family, unless the packet travels in a tunnel."""
    own = backend.address
    if backend.mode not in _METHODS:
        return False
    return own is not None and (backend.mode is Mode.TUN or own.version == plane.address.version)


def _complain(plane: Plane | None) -> None:
    """After all others were brought about."""
    backends = plane.frontend.backends if plane and plane.frontend else ()
    if any(backend.mode not in _METHODS for backend in backends):
        raise EngineError(
            "LVS has no full NAT, which remote members need where taps translate to the others. "
            "Choose the translation director, or a director with the engine ebpf."
        )
    if plane and plane.frontend and plane.frontend.masquerade:
        raise EngineError(
            "LVS masquerades nothing. Choose a director with the engine ebpf, or let a rule of "
            "nftables do it."
        )
    if any(not backend.state.keeps for backend in backends):
        raise EngineError(
            "LVS keeps the connections of dead members. Choose the down_action keep, or a "
            "director with the engine ebpf."
        )
    missing = [str(b.member_id) for b in backends if plane and not _is_reached(plane, b)]
    if missing:
        raise EngineError(
            "LVS reaches members by their own addresses, and none of the pool's family is known "
            f"of {', '.join(missing)}. Have them send something, or give the members an address."
        )


def _sum(member_id: UUID, counted: list[Counters]) -> MemberCounters:
    return MemberCounters(
        member_id,
        connections=sum(c.connections for c in counted),
        active=sum(c.active for c in counted),
        inactive=sum(c.inactive for c in counted),
        packets_in=sum(c.packets for c in counted),
        bytes_in=sum(c.octets for c in counted),
    )


def _state(name: str) -> FlowState:
    if name in _OPENING:
        return FlowState.OPENING
    return _STATES.get(name, FlowState.CLOSING)
