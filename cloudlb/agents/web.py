# SPDX-License-Identifier: Apache-2.0
"""Probes by HTTP and HTTPS: a whole conversation, over raw frames along the traffic's path."""

from cloudlb.agents.attempt import Attempt
from cloudlb.agents.talk import Talk
from cloudlb.agents.target import Target
from cloudlb.agents.watch import Outcome
from cloudlb.net.answer import Answer, Segment
from cloudlb.net.stream import State, Stream

_FIRST_PATIENCE = 0.2


class WebAttempt(Attempt):
    """A connection, a request and the status of its answer."""

    def __init__(self, target: Target, own_port: int, token: int) -> None:
        super().__init__(target, own_port)
        self.patience = _FIRST_PATIENCE
        self._stream = Stream(target.path, own_port, target.port, token)
        self._talk: Talk | None = None
        self._trouble = ""
        try:
            self._talk = Talk(target.monitor, str(target.address), target.port)
        except ValueError as error:
            self._trouble = f"cannot be probed: {error}"
        self._begun = False

    def start(self) -> list[bytes]:
        """The first segment."""
        return self._stream.frames() if self._talk else []

    def take(self, answer: Answer) -> list[bytes]:
        """Go on with a segment."""
        if self._talk and isinstance(answer, Segment):
            self._stream.take(answer)
            self._converse(self._talk)
            self.outcome = self._judged(self._talk)
        return self._stream.frames()

    def _converse(self, talk: Talk) -> None:
        if self._stream.state is State.OPENING:
            return
        if not self._begun:
            self._begun = True
            self._stream.write(talk.begin())
        if data := self._stream.read():
            self._stream.write(talk.feed(data))

    def _judged(self, talk: Talk) -> Outcome | None:
        if talk.is_over:
            return Outcome(*talk.verdict)
        if self._stream.state is State.REFUSED:
            return Outcome(False, f"refuses connections to port {self.end.port}")
        if self._stream.state in (State.RESET, State.ENDED):
            return Outcome(False, "ends the connection before it has answered")
        return None

    def resend(self) -> list[bytes]:
        """What was not acknowledged."""
        if self._talk:
            self._stream.resend()
        return self._stream.frames()

    def late(self) -> Outcome | None:
        """A member that accepts connections and says nothing is told from one that is silent."""
        if self._trouble:
            return Outcome(False, self._trouble)
        if self._begun:
            return Outcome(False, "accepts the connection and does not answer in time")
        return None

    def close(self) -> list[bytes]:
        """A reset."""
        if self._talk:
            self._stream.abort()
        return self._stream.frames()
