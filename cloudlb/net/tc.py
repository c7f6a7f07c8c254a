# SPDX-License-Identifier: Apache-2.0
"""BPF filters on interfaces, through clsact: the one way that works on Linux 6.1 and later.

The name of a filter is cloudlb's owner mark; filters of other names are never touched.
"""

from enum import IntEnum

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

MARK = "cloudlb:"
_PREFERENCE = 50  # lower runs first; leaves room on both sides for others
_HANDLE = 1
_ETH_P_ALL = 3
_CLSACT_HANDLE = 0xFFFF0000


class Direction(IntEnum):
    """The hooks of clsact (linux/pkt_sched.h)."""

    INGRESS = 0xFFFFFFF2
    EGRESS = 0xFFFFFFF3


def attach(ipr: IPRoute, index: int, direction: Direction, program: int, name: str) -> None:
    """Run ``program`` (a file descriptor) on an interface, in place of an earlier one of ours.

    The exchange is atomic: no packet passes without a program. Raises OSError.
    """
    try:
        ipr.tc("add", "clsact", index)
    except NetlinkError as error:
        if error.code != 17:
            raise OSError(error.code, f"clsact on interface {index}: {error}") from error
    try:
        ipr.tc(
            "replace-filter",
            "bpf",
            index,
            handle=_HANDLE,
            fd=program,
            name=MARK + name,
            parent=direction,
            prio=_PREFERENCE,
            protocol=_ETH_P_ALL,
            direct_action=True,
        )
    except NetlinkError as error:
        raise OSError(error.code, f"filter on interface {index}: {error}") from error


def attached(ipr: IPRoute, index: int, direction: Direction) -> str | None:
    """The name of our filter on an interface, None when there is none."""
    try:
        filters = list(ipr.get_filters(index=index, parent=direction))
    except NetlinkError:
        return None
    for message in filters:
        options = message.get_attr("TCA_OPTIONS")
        name = options.get_attr("TCA_BPF_NAME") if options else None
        if name and name.startswith(MARK):
            return str(name.removeprefix(MARK))
    return None


def detach(ipr: IPRoute, index: int) -> None:
    """Remove our filters from an interface, and the qdisc when nobody else uses it."""
    others = False
    for direction in Direction:
        if attached(ipr, index, direction):
            ipr.tc(
                "del-filter",
                "bpf",
                index,
                handle=_HANDLE,
                parent=direction,
                prio=_PREFERENCE,
                protocol=_ETH_P_ALL,
            )
        others = others or bool(list(ipr.get_filters(index=index, parent=direction)))
    if not others:
        ipr.tc("del", "clsact", index)
