# SPDX-License-Identifier: Apache-2.0
"""An agent from its configuration: the engine and the drivers are found by their names."""

from collections.abc import Callable
from dataclasses import fields
from ipaddress import ip_address
from pathlib import Path

from oslo_config import cfg
from stevedore import driver, extension
from stevedore.exception import NoMatches

from cloudlb.agents import alone
from cloudlb.agents.agent import Agent, Conductor, Settings
from cloudlb.agents.ports import Xdp
from cloudlb.drivers.base import DataPlaneDriver
from cloudlb.engines.base import Engine, Timeouts
from cloudlb.model.dataplane import PortRange, TableSizes
from cloudlb.model.errors import Misconfigured
from cloudlb.model.host import Role
from cloudlb.model.load import Measures
from cloudlb.model.network import Address


def make_agent(conf: cfg.ConfigOpts, conductor: Conductor) -> Agent:
    """The agent that ``[agent]`` describes, with its engine open.

    Raises Conflict when another process works on this host's kernel, as this one does from now on.
    """
    alone.hold(Path(conf.agent.state_dir))
    return Agent(_settings(conf), conductor, load_drivers(), _open_engine(conf))


def load_drivers() -> dict[str, DataPlaneDriver]:
    """The installed data planes by name (entry points ``cloudlb.dataplane``)."""
    found: extension.ExtensionManager[DataPlaneDriver] = extension.ExtensionManager(
        "cloudlb.dataplane", invoke_on_load=True
    )
    return {item.name: item.obj for item in found if item.obj is not None}


def _settings(conf: cfg.ConfigOpts) -> Settings:
    group = conf.agent
    return Settings(
        host=conf.host,
        roles=tuple(Role(name) for name in group.roles),
        network_mappings=group.network_mappings,
        engine=group.engine,
        libvirt_uri=group.libvirt_uri,
        state_dir=Path(group.state_dir),
        pull_interval=group.pull_interval,
        report_interval=group.report_interval,
        resync_interval=group.resync_interval,
        snapshot_max_age=group.snapshot_max_age,
        metrics_host=group.metrics_host,
        metrics_port=group.metrics_port,
        management=_management(group.management_address),
        east_west_port=group.east_west_port,
        election_interval=group.election_interval,
        max_load=group.max_load,
        load_weights=_weights(group.load_weights),
        xdp=Xdp(group.xdp),
    )


def _management(text: str) -> Address | None:
    try:
        return ip_address(text) if text else None
    except ValueError as error:
        raise Misconfigured(f"[agent] management_address: {error}.") from error


def _weights(given: dict[str, float]) -> Measures:
    known = [field.name for field in fields(Measures)]
    for name, weight in given.items():
        if name not in known or weight < 0:
            raise Misconfigured(
                f"[agent] load_weights: {name}:{weight:g} is no part of a load; parts are "
                f"{', '.join(known)}, with weights of 0 or more."
            )
    return Measures(**given)


def _ports(text: str) -> PortRange:
    first, dash, last = text.partition("-")
    try:
        found = PortRange(int(first), int(last if dash else first))
    except ValueError:
        found = PortRange(1, 0)
    if not 0 < found.first <= found.last < 65536:
        raise Misconfigured(
            f"[agent] nat_ports: {text!r} is no range of ports, as 61000-65096 is one."
        )
    return found


def objects(conf: cfg.ConfigOpts) -> Path:
    """The directory in which an engine keeps what it needs to find again."""
    return Path(conf.agent.state_dir) / "programs"


def _open_engine(conf: cfg.ConfigOpts) -> Engine:
    group = conf.agent
    engine = _engine(group.engine)(
        bpffs=Path(group.bpffs),
        objects=objects(conf),
        sizes=TableSizes(
            flows=group.flow_table_size,
            clients=group.client_table_size,
            fragments=group.fragment_table_size,
            members=group.member_table_size,
        ),
        timeouts=Timeouts(
            opening=group.tcp_opening_timeout,
            established=group.tcp_established_timeout,
            closing=group.tcp_closing_timeout,
            udp=group.udp_timeout,
        ),
        aliases=_ports(group.nat_ports),
    )
    if Role.COMPUTE.value in group.roles and not engine.serves_guests:
        engine.close()
        raise Misconfigured(
            f"[agent] engine {group.engine!r} serves no guests: roles must be director alone, or "
            "the engine ebpf."
        )
    return engine


def _engine(name: str) -> Callable[..., Engine]:
    try:
        make: Callable[..., Engine] = driver.DriverManager("cloudlb.engine", name).driver
    except NoMatches as error:
        known = ", ".join(sorted(extension.ExtensionManager("cloudlb.engine").names()))
        raise Misconfigured(f"[agent] engine is {name!r}; there are {known}.") from error
    return make
