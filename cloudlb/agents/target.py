# SPDX-License-Identifier: Apache-2.0
"""A member to probe, and what probes say of it."""

from dataclasses import dataclass, replace
from uuid import UUID

from cloudlb.model.ether import Mac
from cloudlb.model.network import Address
from cloudlb.model.pool import Health, Monitor
from cloudlb.net.frame import Path, Tunnel


@dataclass(frozen=True, slots=True)
class Target:
    """A member to probe. ``source`` None: it cannot be, for the reason ``obstacle``.

    ``echo_address`` is where it answers echo requests, when that is another than ``address``.
    ``is_directed``: this host directs the pool, and what its probes say counts. ``home`` is
    another host whose agent probes the member, too, and ``listeners`` are other directors that
    this host tells what it finds, because the member is here.
    """

    member_id: UUID
    pool_id: UUID
    monitor: Monitor
    port: int
    interface: str
    interface_mac: Mac
    member_mac: Mac
    source: Address | None
    address: Address
    tunnel: Tunnel | None = None
    obstacle: str = ""
    echo_address: Address | None = None
    is_directed: bool = True
    home: str = ""
    listeners: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The way of this target's frames."""
        assert self.source is not None  # noqa: S101  (targets without are not probed)
        return Path(self.interface_mac, self.member_mac, self.source, self.address, self.tunnel)

    @property
    def echo_path(self) -> Path:
        """The way of its echo requests."""
        return replace(self.path, address=self.echo_address or self.address)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A change of a member's health."""

    member_id: UUID
    pool_id: UUID
    health: Health
    reason: str
