# SPDX-License-Identifier: Apache-2.0
"""What LVS is asked for, of planes."""

from dataclasses import replace

import pytest

from cloudlb.engines import ipvs
from cloudlb.model.dataplane import Algorithm, BackendState, Mode, Plane
from cloudlb.model.errors import EngineError
from cloudlb.model.pool import Persistence, Port, Protocol
from cloudlb.net.ipvs import Method, Server, Service, Virtual
from tests.planes import VIP4, VIP6, backend, director, own

PORTS = (Port(Protocol.TCP, 80), Port(Protocol.UDP, 53))


def plane(algorithm: Algorithm = Algorithm.ROUND_ROBIN, mode: Mode = Mode.DR) -> Plane:
    members = [replace(backend(n, n, idle=n == 2), mode=mode, address=own(n)) for n in (1, 2, 3)]
    return director(members, algorithm, VIP4, ports=PORTS)


def test_every_port_is_a_virtual_server_with_all_members() -> None:
    servers = {
        own(n): Server(Method.DIRECT_ROUTE, weight) for n, weight in ((1, 1), (2, 0), (3, 3))
    }
    assert ipvs._services(plane()) == {
        Virtual(VIP4, 6, 80): (Service("rr"), servers),
        Virtual(VIP4, 17, 53): (Service("rr"), servers),
    }


@pytest.mark.parametrize(
    ("mode", "method"),
    [
        (Mode.DR, Method.DIRECT_ROUTE),
        (Mode.EDGE_NAT, Method.DIRECT_ROUTE),
        (Mode.TUN, Method.TUNNEL),
    ],
)
def test_a_mode_is_a_forwarding_method(mode: Mode, method: Method) -> None:
    for _, servers in ipvs._services(plane(mode=mode)).values():
        assert {server.method for server in servers.values()} == {method}


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_scheduler_is_one_of_lvs_or_refused_by_name(algorithm: Algorithm) -> None:
    if algorithm in ipvs._SCHEDULERS:
        ((service, _), _) = ipvs._services(plane(algorithm)).values()
        assert service == Service(ipvs._SCHEDULERS[algorithm])
    else:
        with pytest.raises(EngineError, match=f"does not schedule by {algorithm}; it has "):
            ipvs._services(plane(algorithm))


def test_persistence_is_the_services() -> None:
    wanted = plane()
    assert wanted.frontend
    frontend = replace(wanted.frontend, persistence=Persistence(60, 24))
    for service, _ in ipvs._services(replace(wanted, frontend=frontend)).values():
        assert service == Service("rr", 60, 24)


def test_several_directors_are_refused() -> None:
    wanted = plane()
    assert wanted.frontend
    shared = replace(wanted, frontend=replace(wanted.frontend, router=9))
    with pytest.raises(EngineError, match="one director"):
        ipvs._services(shared)


def test_only_tunnels_lead_to_a_member_of_the_other_family() -> None:
    other = replace(backend(1), address=own(1, 6))
    assert not ipvs._is_reached(director([other], address=VIP4), other)
    assert ipvs._is_reached(director([other], address=VIP6), other)
    assert ipvs._is_reached(director([other], address=VIP4), replace(other, mode=Mode.TUN))


@pytest.mark.parametrize("state", [BackendState.DESERTED, BackendState.CUT])
def test_a_dead_member_gets_nothing_new_and_giving_it_up_is_refused(state: BackendState) -> None:
    wanted = plane()
    assert wanted.frontend
    first, *others = wanted.frontend.backends
    backends = (replace(first, state=state), *others)
    given_up = replace(wanted, frontend=replace(wanted.frontend, backends=backends))
    for _, servers in ipvs._services(given_up).values():
        assert servers[own(1)].weight == 0
    ipvs._complain(wanted)
    with pytest.raises(EngineError, match="LVS keeps the connections of dead members"):
        ipvs._complain(given_up)
