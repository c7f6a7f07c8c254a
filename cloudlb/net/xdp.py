# SPDX-License-Identifier: Apache-2.0
"""XDP programs on interfaces, run by their drivers; each is held by a BPF link.

A link is pinned, so that it outlives the process, under the interface's number in a directory that
has nothing else: that a link is there says that it is cloudlb's. While it is there nobody else's
program can take its place, and it takes nobody else's place.
"""

import errno
import os
import socket
from contextlib import closing, suppress
from pathlib import Path

from pyroute2.ethtool import Ethtool

from cloudlb.net.bpf.libbpf import Libbpf

_REASONS = {
    errno.EOPNOTSUPP: "the driver runs no XDP programs",
    errno.EBUSY: "another XDP program is there",
    errno.EEXIST: "another XDP program is there",
}
_STRIPS = ("rx-vlan-hw-parse", "rx-vlan-stag-hw-parse")


class RefusedError(Exception):
    """An interface that cannot have the program, and why."""


class ExpressLinks:
    """The links that are pinned in a directory of a BPF file system."""

    def __init__(self, libbpf: Libbpf, pins: Path) -> None:
        self._libbpf, self._pins = libbpf, pins

    def attach(self, index: int, program: int) -> bool:
        """Run ``program`` (a file descriptor) on an interface, in place of an earlier one of ours;
        whether it was not there before. No packet passes without one of the two.

        RefusedError when the driver refuses, when another program is there, and when VLAN tags
        would be hidden from the program. What was there of ours is removed then.
        """
        try:
            if _strips_tags(index):
                raise RefusedError("the driver hides VLAN tags; ethtool -K rxvlan off shows them")
            if self._update(index, program):
                return False
            self._create(index, program)
        except RefusedError:
            self.detach(index)
            raise
        return True

    def detach(self, index: int) -> bool:
        """Take our program off an interface, which may be gone; whether it had one."""
        try:
            self._pin(index).unlink()
        except FileNotFoundError:
            return False
        with suppress(OSError):  # there are others
            self._pins.rmdir()
        return True

    def marked(self) -> frozenset[int]:
        """The interfaces that carry a program of ours."""
        if not self._pins.is_dir():
            return frozenset()
        return frozenset(int(path.name) for path in self._pins.iterdir())

    def _update(self, index: int, program: int) -> bool:
        """Have the link that there is run the program; False if there is none.

        A link of an interface that is gone is of no use to another one with its number.
        """
        try:
            fd = self._libbpf.get(self._pin(index))
        except FileNotFoundError:
            return False
        try:
            link = self._libbpf.xdp_link(fd)
            if link.index != index:
                self.detach(index)
                return False
            if link.program != self._libbpf.program_id(program):
                self._libbpf.update_link(fd, program)
            return True
        finally:
            os.close(fd)

    def _create(self, index: int, program: int) -> None:
        try:
            fd = self._libbpf.create_xdp_link(program, index)
        except OSError as error:
            reason = _REASONS.get(error.errno or 0, error.strerror)
            raise RefusedError(reason) from error
        try:
            self._pins.mkdir(parents=True, exist_ok=True)
            self._libbpf.pin(fd, self._pin(index))
        finally:
            os.close(fd)

    def _pin(self, index: int) -> Path:
        return self._pins / str(index)


def _strips_tags(index: int) -> bool:
    """Whether frames come to the driver's program without the VLAN tag that they have."""
    with closing(Ethtool()) as ethtool:
        features = ethtool.get_features(socket.if_indextoname(index)).features
    return any(feature.enable for name in _STRIPS if (feature := features.get(name)))
