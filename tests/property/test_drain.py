# SPDX-License-Identifier: Apache-2.0
"""A drain ends at one time on all directors, whenever they heard of it and whatever happened."""

import threading
from collections.abc import Sequence
from ipaddress import IPv4Address
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudlb.agents.pools import Pools
from cloudlb.drivers.dr import DirectRouting
from cloudlb.engines.memory import Connection, MemoryEngine
from tests.planes import NETWORK, PORTS, VIP4, member_id
from tests.views import member, snapshot, view

POOL = UUID(int=1)
CLIENT = Connection(NETWORK, IPv4Address("198.51.100.9"), 40000, VIP4 + 1, PORTS[0])
NAMES = ("d1", "d2")


class Site:
    """Two directors, whose clocks have nothing in common, and the time since the removal."""

    def __init__(self, offsets: Sequence[int], drain_timeout: int) -> None:
        self.now = 0
        self.drain_timeout = drain_timeout
        self.offsets = dict(zip(NAMES, offsets, strict=True))
        self.engines = {name: MemoryEngine() for name in NAMES}
        self.pools = {name: self._start(name) for name in NAMES}
        for name in NAMES:
            self._take(name, is_removed=False)
            assert self.engines[name].connect(CLIENT) == member_id(1)

    def _start(self, name: str) -> Pools:
        return Pools(
            name,
            {"dr": DirectRouting()},
            self.engines[name],
            threading.RLock(),
            lambda _word: None,
            lambda _plane: None,
            lambda *_: None,
            lambda: float(self.now + self.offsets[name]),
        )

    def _take(self, name: str, is_removed: bool) -> None:
        one = member(1, removing=is_removed, removed_for=self.now if is_removed else 0)
        views = view(one, member(2), directors=NAMES, drain_timeout=self.drain_timeout)
        for pool_id in self.pools[name].want(snapshot(views, host=name)):
            self.pools[name].reconcile(pool_id)

    def hear(self, name: str) -> None:
        """A snapshot comes, made now."""
        self._take(name, is_removed=True)

    def restart(self, name: str) -> None:
        """The agent begins anew on what is in the kernel, and pulls."""
        self.pools[name] = self._start(name)
        self.hear(name)

    def look(self, name: str) -> None:
        """The agent looks at its drains, as it does each second."""
        self.pools[name].reconcile(POOL)

    def drains(self, name: str) -> bool:
        """Whether the member still has its connections there."""
        frontend = self.engines[name].observe()[POOL].frontend
        assert frontend
        return member_id(1) in {backend.member_id for backend in frontend.backends}


@pytest.mark.requirement("L9")
@given(
    st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)),
    st.integers(0, 60),
    st.lists(
        st.tuples(
            st.integers(0, 20), st.sampled_from(NAMES), st.sampled_from((Site.hear, Site.restart))
        ),
        max_size=8,
    ),
)
def test_a_drain_ends_at_the_same_time_everywhere(
    offsets: tuple[int, int],
    drain_timeout: int,
    story: list[tuple[int, str, object]],
) -> None:
    site = Site(offsets, drain_timeout)
    heard = set()
    for seconds, name, event in story:
        site.now += seconds
        event(site, name)  # type: ignore[operator]
        heard.add(name)
        for director in heard:
            site.look(director)
            assert site.drains(director) == (site.now < drain_timeout)
