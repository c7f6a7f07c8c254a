# SPDX-License-Identifier: Apache-2.0
"""An agent from its configuration: the engine and the drivers are found by their names."""

from collections.abc import Callable
from pathlib import Path

from oslo_config import cfg
from stevedore import driver, extension

from cloudlb.agents.agent import Agent, Conductor, Settings
from cloudlb.drivers.base import DataPlaneDriver
from cloudlb.engines.base import Engine, Timeouts
from cloudlb.model.host import Role


def make_agent(conf: cfg.ConfigOpts, conductor: Conductor) -> Agent:
    """The agent that ``[agent]`` describes, with its engine open."""
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
    )


def _open_engine(conf: cfg.ConfigOpts) -> Engine:
    group = conf.agent
    make: Callable[..., Engine] = driver.DriverManager("cloudlb.engine", group.engine).driver
    return make(
        bpffs=Path(group.bpffs),
        objects=Path(group.state_dir) / "programs",
        flow_table_size=group.flow_table_size,
        timeouts=Timeouts(
            opening=group.tcp_opening_timeout,
            established=group.tcp_established_timeout,
            closing=group.tcp_closing_timeout,
            udp=group.udp_timeout,
        ),
    )
