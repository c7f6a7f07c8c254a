# SPDX-License-Identifier: Apache-2.0
"""Ethernet addresses."""

import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Self

_PATTERN = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


@dataclass(frozen=True, slots=True, order=True)
class Mac:
    """A 48-bit Ethernet address; text form is lower case with colons.

    Raises ValueError for any other text.
    """

    text: str

    def __post_init__(self) -> None:
        lowered = self.text.lower()
        if not _PATTERN.fullmatch(lowered):
            raise ValueError(f"{self.text!r} is not an Ethernet address such as 52:54:00:12:34:56")
        object.__setattr__(self, "text", lowered)

    def __str__(self) -> str:
        return self.text

    @classmethod
    def unpack(cls, octets: bytes) -> Self:
        """The address in six octets."""
        return cls(octets.hex(":"))

    @property
    def packed(self) -> bytes:
        """The six octets."""
        return bytes.fromhex(self.text.replace(":", ""))

    @property
    def link_local(self) -> IPv6Address:
        """The link-local address with the modified EUI-64 of this address (RFC 4291, app. A)."""
        o = self.packed
        interface_id = bytes([o[0] ^ 2]) + o[1:3] + b"\xff\xfe" + o[3:6]
        return IPv6Address(b"\xfe\x80" + bytes(6) + interface_id)
