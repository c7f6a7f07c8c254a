# SPDX-License-Identifier: Apache-2.0
"""The bus inside a process: what it costs to wait, and how soon a message comes."""

import threading
import time
from collections.abc import Iterator
from statistics import median

import pytest
from kombu import Connection, Consumer, Exchange, Queue

from cloudlb.rpc import inprocess

QUEUE = Queue("questions", Exchange("bus"), "questions")


@pytest.fixture
def connection() -> Iterator[Connection]:
    inprocess.register()
    with Connection(f"{inprocess.NAME}://") as opened:
        yield opened
        QUEUE(opened.channel()).delete()


def test_who_waits_takes_no_processor(connection: Connection) -> None:
    with Consumer(connection, QUEUE, callbacks=[lambda *_: None]):
        began, used = time.monotonic(), time.thread_time()
        while time.monotonic() < began + 1:
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=1)
        assert time.thread_time() - used < 0.1


def test_a_message_comes_to_a_reader_that_sleeps(connection: Connection) -> None:
    """Much sooner than one that asks now and then would find it."""
    late, got = [], threading.Event()

    def take(sent_at: float, message: object) -> None:
        late.append(time.monotonic() - sent_at)
        message.ack()  # type: ignore[attr-defined]
        got.set()

    def send() -> None:
        with Connection(f"{inprocess.NAME}://") as other:
            producer = other.Producer()
            for _ in range(20):
                time.sleep(0.02)
                got.clear()
                producer.publish(time.monotonic(), exchange="bus", routing_key="questions")
                assert got.wait(5)

    with Consumer(connection, QUEUE, callbacks=[take]):
        sender = threading.Thread(target=send)
        sender.start()
        while sender.is_alive():
            try:
                connection.drain_events(timeout=0.2)
            except TimeoutError:
                continue
        sender.join()
    assert len(late) == 20
    assert median(late) < 0.05


def test_messages_that_came_before_their_reader_are_read(connection: Connection) -> None:
    QUEUE(connection.channel()).declare()
    connection.Producer().publish("early", exchange="bus", routing_key="questions")
    got: list[str] = []
    with Consumer(connection, QUEUE, callbacks=[lambda body, _: got.append(body)], no_ack=True):
        connection.drain_events(timeout=1)
    assert got == ["early"]
