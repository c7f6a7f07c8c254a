# SPDX-License-Identifier: Apache-2.0
"""A member under probes: where it is asked, what is known of it, and when it is asked next."""

from collections.abc import Callable
from typing import NamedTuple

from cloudlb.agents.target import Target
from cloudlb.model.health import ProbeRecord
from cloudlb.model.pool import MonitorType
from cloudlb.net import frame


class Outcome(NamedTuple):
    """How a probe has ended."""

    answered: bool
    reason: str


ANSWERS = Outcome(True, "answers")
Question = Callable[[int, int], bytes]
"""Makes the one frame of a simple probe of a token and our port."""


class Watch:
    """What a prober keeps of one member. ``turn`` tells its latest entry in the agenda.

    ``is_regular`` once its place in the interval is chosen, ``is_settled`` while another answer
    changes nothing. ``reason`` is the one that was told, ``latest`` that of the last miss, and
    ``repeats`` the misses in a row that had it. ``refused_at``: when a datagram was sent that the
    member's kernel has refused. ``is_doubted`` while clients' complaints are looked into.
    """

    __slots__ = (
        "datagram",
        "echo",
        "is_doubted",
        "is_over",
        "is_regular",
        "is_settled",
        "latest",
        "mac",
        "question",
        "reason",
        "record",
        "refused_at",
        "repeats",
        "target",
        "turn",
    )

    def __init__(self, target: Target, record: ProbeRecord) -> None:
        self.record, self.turn, self.is_over = record, 0, False
        self.is_regular = self.is_settled = self.is_doubted = False
        self.refused_at = float("-inf")
        self.reason, self.latest, self.repeats = "", "", 0
        self.aim(target)

    def aim(self, target: Target) -> None:
        """Ask there from now on."""
        self.target, self.mac, self.is_settled = target, target.member_mac.packed, False
        self.question, self.datagram, self.echo = _question(target), None, None
        if target.monitor.type is MonitorType.UDP and target.source is not None:
            payload = bytes.fromhex(target.monitor.payload or "")
            self.datagram = frame.Datagram(target.path, target.port, payload)
            self.echo = frame.Echo(target.echo_path) if target.monitor.accept_silence else None

    def silence(self) -> Outcome:
        """What it means that nothing was heard in time."""
        target = self.target
        if target.source is None:
            return Outcome(False, f"cannot be probed: {target.obstacle}")
        monitor = target.monitor
        times = f"{monitor.fall} times in a row"
        return Outcome(False, f"no answer within {monitor.timeout:g} s, {times}")


def _question(target: Target) -> Question | None:
    """None for a target that takes more than one frame, or none."""
    if target.source is None:
        return None
    if target.monitor.type is MonitorType.TCP:
        return frame.Syn(target.path, target.port).frame
    if target.monitor.type is MonitorType.ICMP:
        return frame.Echo(target.path).frame
    return None
