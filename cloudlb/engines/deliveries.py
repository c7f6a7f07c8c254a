# SPDX-License-Identifier: Apache-2.0
"""Which member the programs at an interface find by an address: guests at their taps, and at an
uplink the members that this host directs to.
"""

from collections.abc import Callable, Iterable

from cloudlb.engines import records
from cloudlb.engines.base import HostPort, PortKind
from cloudlb.engines.mirror import PoolState
from cloudlb.model.ether import Mac
from cloudlb.net.bpf.layout import DeliveryKey, MemberRecord, Number
from cloudlb.net.bpf.programs import Maps


class Deliveries:
    """Keeps the map in agreement with members' records.

    ``attached`` gives the interfaces of a kind, with those of which it is not known; ``pools`` all
    that there are.
    """

    def __init__(
        self,
        maps: Maps,
        attached: Callable[[PortKind], Iterable[int]],
        pools: Callable[[], Iterable[PoolState]],
    ) -> None:
        self._maps, self._attached, self._pools = maps, attached, pools

    def add(self, state: PoolState, port: HostPort) -> None:
        """Let the programs at an interface know the pool's members that they have to do with."""
        if port.network != state.record.network:
            return
        for number, record in state.members.items():
            if port.kind is PortKind.UPLINK or port.leads_to(Mac.unpack(record.mac)):
                for address in records.deliveries(record, state.record, port.kind):
                    self._put(port, address, number, record)

    def change(self, state: PoolState, number: int, old: MemberRecord) -> None:
        """Where a member is not found any more; also at taps that an earlier process attached."""
        new = state.members.get(number)
        stays = new is not None and new.mac == old.mac
        for kind in PortKind:
            kept = records.deliveries(new, state.record, kind) if new and stays else frozenset()
            for address in records.deliveries(old, state.record, kind) - kept:
                self._remove(kind, address, state.record.network, number, old)

    def clear(self, index: int) -> None:
        """Nobody is found at an interface any more."""
        for key, _ in list(self._maps.deliveries.items()):
            if key.ifindex == index:
                del self._maps.deliveries[key]

    def _put(self, port: HostPort, address: bytes, number: int, record: MemberRecord) -> None:
        """Members of several pools may share their own address: the first stays."""
        key = DeliveryKey(port.index, address)
        known = self._maps.deliveries.get(key)
        if known == Number(number):
            return
        there = self._maps.members.get(known) if known else None
        if there is None or not records.shares_own(record, there, address, port.kind):
            self._maps.deliveries[key] = Number(number)

    def _remove(
        self, kind: PortKind, address: bytes, network: int, number: int, old: MemberRecord
    ) -> None:
        for index in self._attached(kind):
            key = DeliveryKey(index, address)
            if self._maps.deliveries.get(key) != Number(number):
                continue
            heir = self._heir(kind, address, network, number, old)
            if heir is None:
                del self._maps.deliveries[key]
            else:
                self._maps.deliveries[key] = Number(heir)

    def _heir(
        self, kind: PortKind, address: bytes, network: int, number: int, record: MemberRecord
    ) -> int | None:
        """A member of another pool that is found by the same own address."""
        for state in self._pools():
            for other, there in state.members.items():
                found = records.shares_own(record, there, address, kind)
                if found and other != number and state.record.network == network:
                    return other
        return None
