# SPDX-License-Identifier: Apache-2.0
"""What is wrong is said in words that name the field; what is right is completed."""

from typing import Any

import pytest

from cloudlb.api import validation
from cloudlb.api.merge import patched
from cloudlb.api.validation import InvalidFields
from cloudlb.schemas import member, network, pool

NETWORK_ID = "6b4ad17e-7a68-4b5b-b2ab-a1ae1f2a5e5a"
POOL = {"network_id": NETWORK_ID, "name": "web", "ports": [{"protocol": "tcp", "port": 80}]}


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"name": 5}, "pool.name", "must be string, not 5"),
        ({"name": ""}, "pool.name", "must not be empty"),
        ({"ports": []}, "pool.ports", "must name at least one"),
        ({"ports": [{"port": 80}]}, "pool.ports[0].protocol", "is required"),
        ({"ports": POOL["ports"] * 2}, "pool.ports", "twice"),
        ({"ports": [{"protocol": "tcp", "port": 0}]}, "pool.ports[0].port", "at least 1"),
        ({"ports": [{"protocol": "tcp", "port": True}]}, "pool.ports[0].port", "integer"),
        ({"address": "192.0.2.999"}, "pool.address", "IPv4 or IPv6"),
        ({"address": "fe80::1%eth0"}, "pool.address", "IPv4 or IPv6"),
        ({"network_id": "{" + NETWORK_ID + "}"}, "pool.network_id", "UUID"),
        ({"scheduler": "best"}, "pool.scheduler", "one of round_robin, weighted_round_robin"),
        ({"colour": 1}, "pool.colour", "not known here"),
        ({"monitor": {"type": "tcp", "rise": 0}}, "pool.monitor.rise", "at least 1"),
        ({"members": [{"server": "a", "weight": 257}]}, "pool.members[0].weight", "at most 256"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(InvalidFields) as caught:
        validation.check(pool.CREATE, {"pool": POOL | change})
    assert caught.value.fields[0][0] == field
    assert words in caught.value.fields[0][1]


def test_defaults_are_filled_in_to_the_innermost() -> None:
    spec = validation.check(pool.CREATE, {"pool": POOL | {"monitor": {"type": "icmp"}}})["pool"]
    assert spec["scheduler"] == "round_robin"
    assert spec["monitor"]["fall"] == 3
    assert spec["drain_timeout"] == 300


def test_a_number_without_fraction_is_an_integer() -> None:
    spec = validation.check(member.ONE, {"member": {"server": "a", "weight": 2.0}})["member"]
    assert isinstance(spec["weight"], int)


def test_a_long_value_is_not_repeated_in_full() -> None:
    with pytest.raises(InvalidFields) as caught:
        validation.check(network.CREATE, {"network": ["x" * 10_000] * 100})
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("text", ["nan", "inf", "1e999", "x", ""])
def test_a_query_number_must_be_finite(text: str) -> None:
    with pytest.raises(validation.InvalidRequest):
        validation.parse_query({"wait": {"type": "number"}}, {"wait": text})


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patches_are_those_of_rfc_7396_appendix_a(
    target: Any, patch: Any, result: Any
) -> None:
    assert patched(target, patch) == result
