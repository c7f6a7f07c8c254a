# SPDX-License-Identifier: Apache-2.0
"""Datagrams and connections through hosts that direct for each other (data plane ``dpr``).

    python -m benchmarks.distributed [--rounds N]

Prints samples as `benchmarks.forwarding` does, and is meant for the same guest. Each of the four
members is behind the bridge of a host of its own; without a director and with nftables' the
packets take the same bridges.
"""

import argparse
import contextlib
import itertools
import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from benchmarks.directors import (
    IDS,
    NETWORK,
    POOL,
    PORTS,
    look_at_events,
    nft_dnat,
    nobody,
    plane_of_director,
    programs_with_maps,
)
from benchmarks.forwarding import MEASURES, prepared, sample, take_much_at_once
from benchmarks.rig import HOSTS, MEMBERS, VIP, Machine, Rig, mac, own, tap_mac
from cloudlb.engines.base import HostPort, PortKind
from cloudlb.engines.ebpf import EbpfEngine
from cloudlb.model.dataplane import Algorithm, Backend, Frontend, Guest, Mode, Plane

ROUTER = 9
WAYS = {"mac": Mode.DR, "ipip": Mode.TUN}
"""How packets are passed on."""


Engines = Mapping[Machine, EbpfEngine]
"""Those of the hosts and the director, attached, without planes."""


@contextlib.contextmanager
def engines_of(rig: Rig) -> Iterator[Engines]:
    """Engines at the director and at all hosts, with their programs in the packets' way."""
    with ExitStack() as stack:
        engines = {}
        for machine in (*rig.hosts, rig.director):
            ports = machine.do(partial(_ports, machine))
            at_machine = programs_with_maps(machine.name, ports, machine.do)
            programs = stack.enter_context(at_machine)
            programs.put_on()
            stack.callback(programs.take_off)
            engines[machine] = programs.engine
            machine.do(partial(engines[machine].guard, NETWORK, list(VIP.values())))
        yield engines


@contextlib.contextmanager
def directing(
    rig: Rig, engines: Engines, version: int, passing: Mode, count: int = len(HOSTS)
) -> Iterator[None]:
    """The first hosts direct to their members, as the planes of the data plane ``dpr`` say."""
    rig.answers_through(version, director=False)
    with _applied(engines, {h: _plane(h, version, passing, count) for h in rig.hosts[:count]}):
        yield


@contextlib.contextmanager
def directed(rig: Rig, engines: Engines, version: int, mode: Mode) -> Iterator[None]:
    """The director alone directs to the members of all hosts."""
    rig.answers_through(version, director=mode is Mode.NAT)
    planes = {
        host: Plane(POOL, NETWORK, VIP[version], guests=(_guest(host, version, mode),))
        for host in rig.hosts
    }
    with _applied(engines, planes | {rig.director: plane_of_director(mode, version)}):
        yield


@contextlib.contextmanager
def _applied(engines: Engines, planes: Mapping[Machine, Plane]) -> Iterator[None]:
    """Nothing is lost meanwhile, and nothing is remembered afterwards."""
    for machine, plane in planes.items():
        machine.do(partial(engines[machine].apply, POOL, plane))
    yield
    for machine in planes:
        look_at_events(engines[machine])
        machine.do(partial(engines[machine].apply, POOL, None))
        machine.do(engines[machine].sweep)


def _ports(machine: Machine) -> tuple[HostPort, ...]:
    """Where packets to the machine come by, a host's bridge, and the tap of a host's member."""
    is_host = machine.number in HOSTS
    addresses = tuple(own(machine.number, version) for version in VIP)
    index = socket.if_nametoindex("br0" if is_host else "eth0")
    uplink = HostPort(index, PortKind.UPLINK, NETWORK, mac(machine.number), addresses)
    if not is_host:
        return (uplink,)
    tap = _member(machine)
    index = socket.if_nametoindex(f"tap{tap}")
    return uplink, HostPort(index, PortKind.TAP, NETWORK, tap_mac(tap))


def _member(host: Machine) -> int:
    return MEMBERS[HOSTS.index(host.number)]


def _guest(host: Machine, version: int, mode: Mode, former: tuple[Mode, ...] = ()) -> Guest:
    member = _member(host)
    id_ = IDS[MEMBERS.index(member)]
    return Guest(id_, mac(member), mode, own(member, version), former=former)


def _plane(host: Machine, version: int, passing: Mode, count: int) -> Plane:
    """What a host makes of the pool: `cloudlb.drivers.dpr`."""
    here = _member(host)
    backends = tuple(
        Backend(id_, Mode.DR if n == here else passing, mac(n), 1, address=own(n, version))
        for id_, n in zip(IDS[:count], MEMBERS[:count], strict=True)
    )
    frontend = Frontend(Algorithm.FLOW_HASH, PORTS, backends, router=ROUTER)
    former = (Mode.TUN,) if passing is Mode.TUN else ()
    guest = _guest(host, version, Mode.DR, former)
    return Plane(POOL, NETWORK, VIP[version], frontend, (guest,))


@contextlib.contextmanager
def entering_by(rig: Rig, version: int, count: int) -> Iterator[None]:
    """The client spreads its connections over the first hosts, by a hash."""
    hops = " ".join(f"nexthop via {own(n, version)} dev eth0" for n in HOSTS[:count])
    rig.client.ip(f"route add {VIP[version]} {hops}\n")
    yield
    rig.client.ip(f"route del {VIP[version]}\n")


def measure(rounds: int) -> dict[str, list[float]]:
    """Samples by way, number of entry hosts, family, and what was sent."""
    rig = prepared(behind_hosts=True)
    samples: dict[str, list[float]] = {}

    def keep(name: str, version: int, kinds: Sequence[str] = tuple(MEASURES)) -> None:
        found = sample(rig, version, rounds, name, kinds)
        samples.update({f"{name} {version} {kind}": each for kind, each in found.items()})

    for version in VIP:
        for name, way in {"direct": nobody, "nft dnat": nft_dnat}.items():
            rig.client.ip("neigh flush dev eth0\n")
            with way(rig, version):
                keep(name, version)
    with engines_of(rig) as engines:
        for version, (name, passing) in itertools.product(VIP, WAYS.items()):
            with directing(rig, engines, version, passing):
                with entering_by(rig, version, len(HOSTS)):
                    keep(f"dpr {name} {len(HOSTS)}", version)
                for entries in range(1, len(HOSTS)):
                    with entering_by(rig, version, entries):
                        keep(f"dpr {name} {entries}", version, ("tcp",))
    return samples


def main() -> None:
    """Print the samples."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    take_much_at_once()
    print(json.dumps(measure(options.rounds)))


if __name__ == "__main__":
    main()
