# SPDX-License-Identifier: Apache-2.0
"""Addresses that this host has on an interface because of cloudlb. Methods raise OSError."""

import errno
import socket

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from cloudlb.model.network import Address

_IFA_F_NODAD = 0x02  # linux/if_addr.h: whoever else has it, this host was told to


def hold(index: int, address: Address) -> None:
    """Have an address, alone in its prefix; it may be there already."""
    _change("replace", index, address, flags=_IFA_F_NODAD if address.version == 6 else 0)


def release(index: int, address: Address) -> None:
    """Have it no more; it, or the interface, may be gone already."""
    try:
        _change("del", index, address)
    except OSError as error:
        if error.errno not in (errno.EADDRNOTAVAIL, errno.ENODEV):
            raise


def holders(address: Address) -> list[int]:
    """The interfaces that have an address, alone in its prefix."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with IPRoute() as channel:
        return [
            found["index"]
            for found in channel.get_addr(family=family)
            if found["prefixlen"] == address.max_prefixlen
            and found.get_attr("IFA_ADDRESS") == str(address)
        ]


def _change(action: str, index: int, address: Address, **options: int) -> None:
    with IPRoute() as channel:
        try:
            channel.addr(
                action,
                index=index,
                address=str(address),
                prefixlen=address.max_prefixlen,
                **options,
            )
        except NetlinkError as error:
            raise OSError(error.code, f"{action} {address}: {error}") from error
