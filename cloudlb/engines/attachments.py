# SPDX-License-Identifier: Apache-2.0
"""The programs on interfaces: in clsact, and on some uplinks before it in the driver (XDP)."""

import logging

from cloudlb.engines.base import HostPort, PortKind
from cloudlb.net.bpf.programs import Programs
from cloudlb.net.tc import Direction, Filters
from cloudlb.net.xdp import ExpressLinks, RefusedError

LOG = logging.getLogger(__name__)
_FILTERS = {
    PortKind.UPLINK: {Direction.INGRESS: "director"},
    PortKind.TAP: {Direction.INGRESS: "from_guest", Direction.EGRESS: "to_guest"},
}
_EXPRESS = "express"


class Attachments:
    """Puts programs of this version in place of those of others, and takes them off.

    ``express`` is a short cut past a director's filter. It goes before the filter and comes before
    it: one that followed a connection in the maps of a former version while the new filter is
    there would not hear that another connection has got the same ports.
    """

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._filters = Filters()
        self._links = ExpressLinks(programs.libbpf, programs.express_links)
        self._refused: dict[int, str] = {}

    def put(self, port: HostPort) -> None:
        """Have an interface carry the programs of its kind. That it cannot have ``express`` is no
        error: it is told when it begins, and tried anew with each call.
        """
        if port.express:
            self._put_express(port.index)
        else:
            self._remove_express(port.index)
        for direction, program in _FILTERS[port.kind].items():
            mark = f"{program}:{self._programs.version}"
            if self._filters.attached(port.index, direction) != mark:
                self._filters.attach(port.index, direction, self._programs.fd(program), mark)

    def remove(self, index: int) -> None:
        """Take our programs off an interface."""
        self._remove_express(index)
        self._filters.detach(index)

    def marked(self) -> frozenset[int]:
        """The interfaces that carry programs of ours."""
        return self._filters.marked() | self._links.marked()

    def close(self) -> None:
        """Let go; the programs stay."""
        self._filters.close()

    def _put_express(self, index: int) -> None:
        try:
            if self._links.attach(index, self._programs.fd(_EXPRESS)):
                LOG.info("interface=%d xdp=attached", index)
            self._refused.pop(index, None)
        except RefusedError as error:
            if self._refused.get(index) != str(error):
                LOG.warning("interface=%d xdp=refused: %s", index, error)
            self._refused[index] = str(error)

    def _remove_express(self, index: int) -> None:
        self._refused.pop(index, None)
        if self._links.detach(index):
            LOG.info("interface=%d xdp=detached", index)
