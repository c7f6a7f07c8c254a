# SPDX-License-Identifier: Apache-2.0
"""Frozen dataclasses to plain JSON data and back, driven by their annotations.

One codec for everything that leaves a process as JSON between parts of cloudlb: RPC bodies and
the snapshot on disk. Unknown keys are ignored and absent ones take their defaults, so that a
newer sender and an older receiver understand each other.
"""

import dataclasses
import types
import typing
from enum import Enum
from functools import cache
from ipaddress import ip_address, ip_network
from typing import Any, TypeVar
from uuid import UUID

from cloudlb.model.ether import Mac
from cloudlb.model.network import Address, Prefix

T = TypeVar("T")

_PARSERS: dict[Any, Any] = {Address: ip_address, Prefix: ip_network, UUID: UUID, Mac: Mac}
_SCALARS = (str, int, float, bool, type(None))


def encode(value: Any) -> Any:
    """JSON data for a dataclass, or for a tuple, dict, enum or scalar inside one."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, _SCALARS):
        return value
    if isinstance(value, Mac):
        return value.text
    if dataclasses.is_dataclass(value):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list | frozenset):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {str(key): encode(item) for key, item in value.items()}
    return str(value)


def decode(kind: type[T], data: Any) -> T:
    """The dataclass ``kind`` from JSON data; ValueError, TypeError or KeyError if it is none."""
    return typing.cast("T", _decode(kind, data))


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _decode(kind: Any, data: Any) -> Any:
    if kind in _PARSERS:
        if not isinstance(data, str):
            raise TypeError(f"{data!r} is no text")
        return _PARSERS[kind](data)
    if dataclasses.is_dataclass(kind):
        hints = _hints(kind)  # type: ignore[arg-type]
        given = {
            f.name: _decode(hints[f.name], data[f.name])
            for f in dataclasses.fields(kind)
            if f.name in data
        }
        return kind(**given)  # type: ignore[operator]
    origin = typing.get_origin(kind)
    if origin is tuple:
        item = typing.get_args(kind)[0]
        return tuple(_decode(item, element) for element in data)
    if origin is dict:
        key, item = typing.get_args(kind)
        return {_decode(key, k): _decode(item, v) for k, v in data.items()}
    if origin in (types.UnionType, typing.Union):
        return None if data is None else _decode(_optional(kind), data)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(data)
    return data


def _optional(kind: Any) -> Any:
    """``T`` of ``T | None``; ``Address | None`` is a union of three."""
    rest = [a for a in typing.get_args(kind) if a is not type(None)]
    union = rest[0]
    for other in rest[1:]:
        union = union | other
    return union
