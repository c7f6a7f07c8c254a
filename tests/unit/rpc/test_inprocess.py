# SPDX-License-Identifier: Apache-2.0
"""The bus inside a process: who waits sleeps, and is woken."""

import threading
import time
from collections.abc import Iterator

import pytest
from kombu import Connection, Consumer, Exchange, Message, Queue

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


def test_a_message_wakes_a_reader_that_sleeps(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that looks again when its time is over would read the first one too late."""
    monkeypatch.setattr(inprocess, "_LONGEST_WAIT", 30)
    got = threading.Semaphore(0)

    def take(_body: str, message: Message) -> None:
        message.ack()
        got.release()

    def read() -> None:
        with Consumer(connection, QUEUE, callbacks=[take]):
            for _ in range(20):
                connection.drain_events(timeout=30)

    reader = threading.Thread(target=read)
    reader.start()
    with Connection(f"{inprocess.NAME}://") as other:
        QUEUE(other.channel()).declare()
        producer = other.Producer()
        for _ in range(20):
            time.sleep(0.02)
            producer.publish("wake up", exchange="bus", routing_key="questions")
            assert got.acquire(timeout=10)
    reader.join()


def test_messages_that_came_before_their_reader_are_read(connection: Connection) -> None:
    QUEUE(connection.channel()).declare()
    connection.Producer().publish("early", exchange="bus", routing_key="questions")
    got: list[str] = []
    with Consumer(connection, QUEUE, callbacks=[lambda body, _: got.append(body)], no_ack=True):
        connection.drain_events(timeout=1)
    assert got == ["early"]
