# SPDX-License-Identifier: Apache-2.0
"""What is encoded is decoded, through real JSON, and strangers' keys do no harm."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cloudlb.model.dataplane import MemberCounters, Plane
from cloudlb.model.ether import Mac
from cloudlb.model.host import Interface, Inventory, Role, Server, Uplink
from cloudlb.model.network import Network
from cloudlb.model.plain import decode, encode
from cloudlb.model.pool import Member, Monitor, Placement, Pool, Port
from cloudlb.model.snapshot import (
    HealthReport,
    MemberView,
    PoolView,
    Realization,
    Report,
    Snapshot,
)
from tests.planes import planes

macs = st.binary(min_size=6, max_size=6).map(Mac.unpack)
addresses = st.ip_addresses()
prefixes = st.sampled_from(("192.0.2.0/24", "2001:db8::/64", "10.0.0.0/30")).map(
    lambda text: decode(Network, {**_NETWORK, "prefixes": [text]}).prefixes[0]
)
_NETWORK = {
    "id": "00000000-0000-0000-0000-000000000001",
    "project_id": "",
    "name": "",
    "number": 1,
    "vip_range": [],
}
for kind, strategy in ((Mac, macs), (float, st.floats(0, 1e6))):
    st.register_type_strategy(kind, strategy)


def tuples(of: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(of, max_size=3).map(tuple)


ports = st.builds(Port)
pools = st.builds(
    Pool,
    address=addresses,
    ports=tuples(ports),
    directors=tuples(st.text()),
    monitor=st.none() | st.builds(Monitor),
)
networks = st.builds(Network, prefixes=tuples(prefixes), vip_range=tuples(prefixes))
placements = st.builds(Placement, addresses=tuples(addresses))
views = st.builds(MemberView, member=st.builds(Member), placement=st.none() | placements)
snapshots = st.builds(
    Snapshot,
    pools=tuples(st.builds(PoolView, pool=pools, network=networks, members=tuples(views))),
)
servers = st.builds(Server, interfaces=tuples(st.builds(Interface, addresses=tuples(addresses))))
inventories = st.builds(
    Inventory,
    roles=tuples(st.sampled_from(Role)),
    uplinks=tuples(st.builds(Uplink, addresses=tuples(addresses))),
    servers=tuples(servers),
)
reports = st.builds(
    Report,
    realizations=tuples(st.builds(Realization, draining=tuples(st.uuids()))),
    inventory=st.none() | inventories,
    health=tuples(st.builds(HealthReport)),
)
anything = st.one_of(snapshots, reports, planes(), st.builds(MemberCounters))


@given(anything)
def test_what_was_encoded_is_decoded(value: Snapshot | Report | Plane | MemberCounters) -> None:
    assert decode(type(value), json.loads(json.dumps(encode(value)))) == value


@given(anything)
def test_keys_of_a_newer_sender_are_ignored(value: Snapshot | Report | Plane) -> None:
    assert decode(type(value), _with_strangers(encode(value))) == value


def _with_strangers(data: Any) -> Any:
    if isinstance(data, dict):
        return {k: _with_strangers(v) for k, v in data.items()} | {"colour": "blue"}
    return [_with_strangers(item) for item in data] if isinstance(data, list) else data
