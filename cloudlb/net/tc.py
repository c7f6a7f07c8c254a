# SPDX-License-Identifier: Apache-2.0
"""BPF filters on interfaces, through clsact: the one way that works on Linux 6.1 and later.

The name of a filter is cloudlb's owner mark; filters of other names are never touched.
"""

import errno
from enum import IntEnum
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

MARK = "cloudlb:"
_PREFERENCE = 50  # lower runs first; leaves room on both sides for others
_HANDLE = 1
_ETH_P_ALL = 3
_ABSENT = (errno.ENODEV, errno.ENOENT, errno.EINVAL)
"""No such interface; no such filter or qdisc; a filter of a qdisc that is not there."""


class Direction(IntEnum):
    """The hooks of clsact (linux/pkt_sched.h)."""

    INGRESS = 0xFFFFFFF2
    EGRESS = 0xFFFFFFF3


class Filters:
    """A netlink socket's worth of filters; methods raise OSError."""

    def __init__(self) -> None:
        self._ipr = IPRoute()

    def close(self) -> None:
        """Close the socket; filters stay."""
        self._ipr.close()

    def attach(self, index: int, direction: Direction, program: int, name: str) -> None:
        """Run ``program`` (a file descriptor) on an interface, in place of an earlier one.

        The exchange is atomic: no packet passes without a program.
        """
        try:
            self._ipr.tc("add", "clsact", index)
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise OSError(error.code, f"clsact on interface {index}: {error}") from error
        try:
            self._ipr.tc(
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

    def attached(self, index: int, direction: Direction) -> str | None:
        """The name of our filter on an interface, None when there is none."""
        for message in self._all(index, direction):
            options = message.get_attr("TCA_OPTIONS")
            name = options.get_attr("TCA_BPF_NAME") if options else None
            if name and name.startswith(MARK):
                return str(name.removeprefix(MARK))
        return None

    def marked(self) -> frozenset[int]:
        """The interfaces that carry a filter of ours."""
        indexes = [message["index"] for message in self._ipr.get_links()]
        return frozenset(i for i in indexes if any(self.attached(i, d) for d in Direction))

    def detach(self, index: int) -> None:
        """Remove our filters from an interface, and the qdisc when nobody else uses it.

        An interface that is gone, now or in the midst of this, has taken both with it.
        """
        for direction in Direction:
            if self.attached(index, direction):
                self._remove(
                    *("del-filter", "bpf", index),
                    handle=_HANDLE,
                    parent=direction,
                    prio=_PREFERENCE,
                    protocol=_ETH_P_ALL,
                )
        if not any(self._all(index, direction) for direction in Direction):
            self._remove("del", "clsact", index)

    def _remove(self, verb: str, kind: str, index: int, **which: int) -> None:
        try:
            self._ipr.tc(verb, kind, index, **which)
        except NetlinkError as error:
            if error.code not in _ABSENT:
                raise OSError(error.code, f"{kind} of interface {index}: {error}") from error

    def _all(self, index: int, direction: Direction) -> list[Any]:
        try:
            return list(self._ipr.get_filters(index=index, parent=direction))
        except NetlinkError:
            return []  # no such interface, or one without clsact
