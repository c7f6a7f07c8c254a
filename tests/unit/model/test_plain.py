# SPDX-License-Identifier: Apache-2.0
"""The codec's edges; that it is its own inverse is shown in tests/property."""

from dataclasses import dataclass, field
from uuid import UUID

import pytest

from cloudlb.model.ether import Mac
from cloudlb.model.host import Host
from cloudlb.model.plain import decode, encode
from cloudlb.model.pool import Monitor, MonitorType, Placement, Port, Protocol
from tests.planes import VIP6, backends, director


@dataclass(frozen=True)
class Odd:
    """Kinds that no part of the model has yet."""

    counts: dict[UUID, int] = field(default_factory=dict)
    pair: tuple[Port, ...] | None = None


def test_the_data_is_plain_json() -> None:
    assert encode(Placement("c1", Mac("52:54:00:00:00:01"), addresses=(VIP6,))) == {
        "host": "c1",
        "mac": "52:54:00:00:00:01",
        "tap": "",
        "addresses": ["2001:db8::100"],
        "running": True,
    }


def test_absent_keys_take_their_defaults() -> None:
    assert decode(Monitor, {"type": "tcp"}) == Monitor(MonitorType.TCP)
    assert decode(Host, {"name": "c1"}) == Host("c1")


def test_an_absent_key_without_a_default_is_an_error() -> None:
    with pytest.raises(TypeError):
        decode(Monitor, {})


@pytest.mark.parametrize(
    "data", [{"type": "carrier pigeon"}, {"type": None}], ids=["unknown", "none"]
)
def test_a_wrong_value_is_an_error(data: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        decode(Monitor, data)


def test_dictionaries_have_keys_of_any_kind() -> None:
    odd = Odd({UUID(int=5): 3}, (Port(Protocol.TCP, 80),))
    assert decode(Odd, encode(odd)) == odd


def test_a_union_of_three_is_decoded() -> None:
    plane = director(backends(1), address=VIP6)
    assert decode(type(plane), encode(plane)) == plane
