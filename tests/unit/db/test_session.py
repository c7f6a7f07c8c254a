# SPDX-License-Identifier: Apache-2.0
"""Sessions: writers exclude each other from the start, races are repeated."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from oslo_db import exception as db_exc
from sqlalchemy import text
from sqlalchemy.orm import Session

from cloudlb.db import schema, session
from cloudlb.db.session import ATTEMPTS, Raced, Sessions
from cloudlb.model.errors import Conflict, Unavailable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database file."""
    return tmp_path / "x.sqlite"


@pytest.fixture
def sessions(path: Path) -> Iterator[Sessions]:
    """Sessions on a synced database that sleep no time."""
    made = session.connect(f"sqlite:///{path}")
    schema.sync(made)
    made._sleep = lambda _seconds: None
    yield made
    made.close()


def test_sqlite_writes_ahead_and_keeps_foreign_keys(sessions: Sessions) -> None:
    with sessions.read() as reader:
        assert reader.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert reader.execute(text("PRAGMA foreign_keys")).scalar() == 1


def test_a_writer_has_the_lock_before_its_first_statement(sessions: Sessions, path: Path) -> None:
    def work(_session: Session) -> str:
        _session.connection()
        other = sqlite3.connect(path, timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()
        return "done"

    assert sessions.write(work) == "done"


def test_a_reader_does_not_wait_for_a_writer(sessions: Sessions) -> None:
    def work(writer: Session) -> int | None:
        writer.execute(text("INSERT INTO sequences VALUES ('x', 1)"))
        with sessions.read() as reader:
            return reader.execute(text("SELECT count(*) FROM sequences")).scalar()

    assert sessions.write(work) == 0


def test_a_deadlock_is_repeated(sessions: Sessions) -> None:
    calls = []

    def work(_session: Session) -> int:
        calls.append(1)
        if len(calls) < 3:
            raise db_exc.DBDeadlock
        return len(calls)

    assert sessions.write(work) == 3


def test_a_deadlock_that_stays_is_unavailable(sessions: Sessions) -> None:
    calls = []

    def work(_session: Session) -> None:
        calls.append(1)
        raise db_exc.DBDeadlock

    with pytest.raises(Unavailable):
        sessions.write(work)
    assert len(calls) == ATTEMPTS


def test_what_was_overtaken_is_repeated_as_often_as_a_deadlock(sessions: Sessions) -> None:
    calls, pauses = [], []
    sessions._sleep = pauses.append

    def work(_session: Session) -> None:
        calls.append(1)
        raise Raced("somebody was quicker")

    with pytest.raises(Unavailable):
        sessions.write(work)
    assert (len(calls), len(pauses)) == (ATTEMPTS, ATTEMPTS - 1)
    assert sum(pauses) < 2


def test_a_key_that_stays_taken_is_a_conflict(sessions: Sessions) -> None:
    def work(writer: Session) -> None:
        writer.execute(text("INSERT INTO sequences VALUES ('x', 1)"))

    sessions.write(work)
    with pytest.raises(Conflict):
        sessions.write(work)


def test_an_error_of_the_work_leaves_nothing_behind(sessions: Sessions) -> None:
    def work(writer: Session) -> None:
        writer.execute(text("INSERT INTO sequences VALUES ('x', 1)"))
        raise RuntimeError

    with pytest.raises(RuntimeError):
        sessions.write(work)
    with sessions.read() as reader:
        assert reader.execute(text("SELECT count(*) FROM sequences")).scalar() == 0
