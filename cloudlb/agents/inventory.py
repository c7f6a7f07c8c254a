# SPDX-License-Identifier: Apache-2.0
"""What this host has: its roles, uplinks and servers, as the conductor needs them."""

import threading

from cloudlb.agents.ports import Ports
from cloudlb.engines.base import Engine
from cloudlb.model.host import Interface, Inventory, Role, Server, Uplink
from cloudlb.model.network import Address
from cloudlb.net import link
from cloudlb.virt.host import Libvirt
from cloudlb.virt.xml import Domain


class HostInventory:
    """Puts the inventory together from libvirt, the kernel's links and the guards' learning."""

    def __init__(
        self,
        roles: tuple[Role, ...],
        engine_name: str,
        engine: Engine,
        lock: threading.RLock,
        ports: Ports,
        libvirt: Libvirt | None,
        management: Address | None = None,
    ) -> None:
        self._management = management
        self._roles, self._engine_name = roles, engine_name
        self._engine, self._lock, self._ports, self._libvirt = engine, lock, ports, libvirt

    def take(self, revision: int) -> Inventory | None:
        """The inventory now; None while libvirt, which there should be, does not answer."""
        domains: dict[Domain, bool] | None = self._libvirt.domains() if self._libvirt else {}
        if domains is None:
            return None
        return Inventory(
            revision=revision,
            roles=self._roles,
            engine=self._engine_name,
            uplinks=self.uplinks(),
            management=self._management,
            servers=tuple(
                self._server(domain, running)
                for domain, running in sorted(domains.items(), key=lambda item: item[0].id)
            ),
        )

    def uplinks(self) -> tuple[Uplink, ...]:
        """The mapped interfaces with the addresses that the host holds on them."""
        return tuple(
            Uplink(
                network=uplinked.network,
                interface=uplinked.link.name,
                mac=uplinked.link.mac,
                addresses=tuple(sorted(link.addresses(uplinked.link.index), key=str)),
                gateways=tuple(sorted(link.gateways(uplinked.link.index), key=str)),
            )
            for uplinked in self._ports.uplinks()
        )

    def _server(self, domain: Domain, running: bool) -> Server:
        interfaces = []
        for nic in domain.interfaces:
            tap = self._ports.tap(nic.tap) if nic.tap else None
            interfaces.append(
                Interface(
                    mac=nic.mac,
                    tap=nic.tap,
                    network=self._ports.network_of(tap, nic.bridge),
                    addresses=self._addresses(tap.index) if tap else (),
                )
            )
        return Server(
            id=domain.id,
            name=domain.name,
            owner=domain.owner,
            running=running,
            project_id=domain.project_id,
            interfaces=tuple(interfaces),
        )

    def _addresses(self, index: int) -> tuple[Address, ...]:
        with self._lock:
            return tuple(sorted(self._engine.guest_addresses(index), key=str))
