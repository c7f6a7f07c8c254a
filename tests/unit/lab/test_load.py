# SPDX-License-Identifier: Apache-2.0
"""A load counts what it did not get: echoes, answers, acknowledgements in time."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cloudlb.lab.load import TIMEOUT, Flows, harm, resent

PATIENCE = 0.3
Talk = Callable[[socket.socket], None]
Start = Callable[[Talk], int]


def silent(connection: socket.socket) -> None:
    """Take what comes and say nothing."""
    while connection.recv(4096):
        pass


def echoing(connection: socket.socket) -> None:
    while octets := connection.recv(4096):
        connection.sendall(octets)


def echoing_once(connection: socket.socket) -> None:
    connection.sendall(connection.recv(4096))
    silent(connection)


def corrupting(connection: socket.socket) -> None:
    connection.sendall(connection.recv(4096)[::-1])


def closing(connection: socket.socket) -> None:
    connection.recv(4096)


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a server on loopback that greets and then talks so; gives its port."""
    with contextlib.ExitStack() as stack:

        def serve(listener: socket.socket, talk: Talk) -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=_greet, args=(connection, talk), daemon=True).start()

        def start(talk: Talk) -> int:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
            threading.Thread(target=serve, args=(listener, talk), daemon=True).start()
            return int(listener.getsockname()[1])

        yield start


def _greet(connection: socket.socket, talk: Talk) -> None:
    with connection, contextlib.suppress(OSError):
        connection.sendall(b"vm1\n")
        talk(connection)


def _load(
    port: int, seconds: float, patience: float = PATIENCE, interval: float = 0.05
) -> dict[str, Any]:
    """The result of three flows."""
    flows = Flows("127.0.0.1", 3, interval, seed=1, port=port, patience=patience)
    flows.run(threading.Event(), seconds)
    return flows.summary()


def test_flows_that_are_echoed_are_whole(start: Start) -> None:
    result = _load(start(echoing), seconds=0.5, patience=TIMEOUT)
    assert (result["flows"], result["broken"], result["servers"]) == (3, 0, {"vm1": 3})
    assert 1 < result["least"] <= result["exchanges"] / 3
    assert harm(result) == ""


def test_a_line_that_is_under_way_at_the_end_and_never_echoed_is_a_broken_flow(
    start: Start,
) -> None:
    result = _load(start(silent), seconds=0.1)
    assert (result["broken"], result["least"], result["broken_on"]) == (3, 0, {"vm1": 3})
    assert result["errors"] == {"no echo within 0.3 s of the end": 3}
    assert harm(result) == "3 of 3 connections broke"


def test_a_flow_that_falls_silent_is_broken_before_the_end(start: Start) -> None:
    result = _load(start(echoing_once), seconds=1.5)
    assert (result["broken"], result["least"]) == (3, 1)
    assert result["errors"] == {"no echo within 0.6 s": 3}


@pytest.mark.parametrize(
    ("talk", "error"),
    [
        (corrupting, "ValueError('corrupt echo')"),
        (closing, "ConnectionResetError('closed by the other side')"),
    ],
)
def test_a_flow_that_is_spoilt_or_closed_is_broken_once(
    start: Start, talk: Talk, error: str
) -> None:
    result = _load(start(talk), seconds=0.3)
    assert (result["broken"], result["errors"]) == (3, {error: 3})


def test_an_end_waits_for_a_slow_echo_and_sends_nothing_more(start: Start) -> None:
    def slow(connection: socket.socket) -> None:
        octets = connection.recv(4096)
        time.sleep(0.3)
        connection.sendall(octets)
        echoing(connection)

    result = _load(start(slow), seconds=0.1, patience=TIMEOUT)
    assert (result["broken"], result["exchanges"]) == (0, 3)


def test_flows_that_had_no_time_for_a_line_show_nothing(start: Start) -> None:
    result = _load(start(echoing), seconds=0.01, interval=60)
    assert (result["broken"], result["exchanges"]) == (0, 0)
    assert harm(result) == "there is a connection on which no line was exchanged"


@pytest.mark.parametrize(
    ("requests", "failed", "said"),
    [(3, 0, ""), (3, 1, "1 of 3 requests failed"), (0, 0, "no request was made")],
)
def test_requests_are_unharmed_when_there_were_some_and_all_were_served(
    requests: int, failed: int, said: str
) -> None:
    assert harm({"requests": requests, "failed": failed}) == said


def test_a_syn_that_is_not_answered_is_counted_when_it_is_sent_again() -> None:
    before = resent()
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as listener,
        socket.create_connection(listener.getsockname()),  # fills its queue of one
        pytest.raises(TimeoutError),
    ):
        socket.create_connection(listener.getsockname(), timeout=1.5)
    grown = resent() - before
    assert grown["RetransSegs"] >= grown["TCPSynRetrans"] >= 1
