# SPDX-License-Identifier: Apache-2.0
"""The SDK's Resources name the attributes that the schemas name: no more, no fewer."""

import pytest
from openstack.resource import URI, Body

from cloudlb.client import resources
from cloudlb.schemas import driver, host, member, network, pool, stats

SCHEMAS = {
    resources.Network: (network.SHOW["properties"]["network"], network.SPEC),
    resources.Pool: (
        pool.SHOW["properties"]["pool"],
        pool.CREATE["properties"]["pool"]["properties"],
    ),
    resources.Member: (member.READ, member.SPEC),
    resources.Host: (host.SHOW["properties"]["host"], {}),
    resources.Driver: (driver.LIST["properties"]["drivers"]["items"], {}),
    resources.PoolStatus: (pool.STATUS["properties"]["status"], {}),
    resources.PoolStats: (stats.STATS["properties"]["stats"], {}),
}


@pytest.mark.parametrize("kind", SCHEMAS, ids=lambda kind: kind.__name__)
def test_attributes_are_those_of_the_schema(kind):
    shown, written = SCHEMAS[kind]
    kinds = (type(Body("x")), type(URI("x")))
    own = {name for name, value in vars(kind).items() if isinstance(value, kinds)}
    assert own == set(shown["properties"]) | set(written)


@pytest.mark.parametrize(
    ("kind", "module"),
    [
        (resources.Network, network),
        (resources.Pool, pool),
        (resources.Member, member),
        (resources.Host, host),
    ],
    ids=lambda each: each.__name__,
)
def test_query_parameters_are_those_of_the_schema(kind, module):
    assert set(kind._query_mapping._mapping) == set(module.QUERY)
