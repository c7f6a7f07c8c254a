# SPDX-License-Identifier: Apache-2.0
"""Probes that take more than one frame, or are told by addresses instead of a token."""

from abc import ABC, abstractmethod

from cloudlb.agents.target import Target
from cloudlb.agents.watch import ANSWERS, Outcome, Watch
from cloudlb.net.answer import Answer, Datagram, Echoed, End, Unreachable

_REFUSAL_LASTS = 5.0


class Attempt(ABC):
    """One probe under way from ``own_port``. ``outcome`` is set once it is known.

    ``patience``: seconds until what may have been lost is sent again. Methods return the frames
    that are to be sent.
    """

    outcome: Outcome | None = None
    patience: float | None = None

    def __init__(self, target: Target, own_port: int) -> None:
        mac, address = target.member_mac.packed, target.address.packed
        self.end = End(mac, address, target.port, own_port)

    @abstractmethod
    def start(self) -> list[bytes]:
        """Begin."""

    @abstractmethod
    def take(self, answer: Answer) -> list[bytes]:
        """Go on with what the member has answered."""

    def late(self) -> Outcome | None:
        """What the end of its time means, None for nothing but silence."""
        return None

    def resend(self) -> list[bytes]:
        """What may have been lost."""
        return []

    def close(self) -> list[bytes]:
        """Leave nothing behind at the member."""
        return []


class DatagramAttempt(Attempt):
    """A datagram, and where silence is accepted an echo request beside it.

    Kernels say *port unreachable* about once a second only, whoever asks, so silence soon after
    a refusal is not accepted.
    """

    def __init__(self, watch: Watch, own_port: int, token: int, now: float) -> None:
        super().__init__(watch.target, own_port)
        assert watch.datagram is not None  # noqa: S101  (of watches by datagram)
        self._watch, self._token, self._now = watch, token, now
        self._datagram, self._echo, self._echoes = watch.datagram, watch.echo, False

    def start(self) -> list[bytes]:
        """The datagram, and the echo request."""
        frames = [self._datagram.frame(self.end.own_port)]
        return [*frames, self._echo.frame(self._token)] if self._echo else frames

    def take(self, answer: Answer) -> list[bytes]:
        """Any datagram is an answer; an echo counts when the time is over."""
        if isinstance(answer, Datagram):
            self.outcome = ANSWERS
        elif isinstance(answer, Unreachable):
            self._watch.refused_at = self._now
            self.outcome = Outcome(False, f"has nobody at UDP port {self.end.port}")
        elif isinstance(answer, Echoed):
            self._echoes = True
        return []

    def late(self) -> Outcome | None:
        """Silence is accepted of a member that answers the echo request."""
        if not self._echoes:
            return None
        if self._now - self._watch.refused_at < _REFUSAL_LASTS:
            return Outcome(False, f"had nobody at UDP port {self.end.port} a moment ago")
        return Outcome(True, "is silent, and answers an echo request")
