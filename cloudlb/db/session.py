# SPDX-License-Identifier: Apache-2.0
"""Sessions on the database: the only user of oslo.db.

Readers read; writers run a function in a transaction that is repeated when the database asks
for it. On SQLite, where the API and the conductor are processes on one file, writers take the
write lock when they begin: one that began as a reader could not be given it later
(SQLITE_BUSY_SNAPSHOT).
"""

import logging
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from oslo_config import cfg
from oslo_db import exception as db_exc
from oslo_db import options as db_options
from oslo_db.sqlalchemy import enginefacade
from sqlalchemy import Connection, Engine, PoolProxiedConnection, event, text
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session

from cloudlb.model.errors import Conflict, Misconfigured, Unavailable

# Other rooms name a session from here.
__all__ = ["Raced", "Session", "Sessions", "connect", "from_conf"]

LOG = logging.getLogger(__name__)
T = TypeVar("T")

DEFAULT_CONNECTION = "sqlite:////var/lib/cloudlb/cloudlb.sqlite"
ATTEMPTS = 6
_WRITER = "cloudlb_writer"


class Raced(Exception):
    """What a transaction read before it held its locks is not so any more: repeat it."""


class Sessions:
    """Gives sessions on one database; safe to share between threads."""

    def __init__(self, engine: Engine, sleep: Callable[[float], None] = time.sleep) -> None:
        self.engine = engine
        self._writers = engine.execution_options(**{_WRITER: True})
        self._sleep = sleep
        self._anchor = _anchored(engine)

    def close(self) -> None:
        """Give all connections back."""
        if self._anchor is not None:
            self._anchor.close()
        self.engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session to read with; nothing that is done in it is kept."""
        with _translated(), Session(self.engine, expire_on_commit=False) as session:
            yield session

    def ping(self) -> None:
        """Raise `Unavailable` unless the database answers."""
        try:
            with self.read() as session:
                session.execute(text("SELECT 1"))
        except db_exc.DBError as error:
            raise Unavailable("The database does not answer.", str(error)) from error

    def write(self, work: Callable[[Session], T]) -> T:
        """Run ``work`` in a transaction and commit it; repeat it after a deadlock or a race.

        At most `ATTEMPTS` times, with pauses that grow; then the database counts as busy.

        ``work`` must therefore have no effect outside its session. A unique key that was taken
        meanwhile counts as a race: the repeated checks of ``work`` then say what it collides with.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with Session(self._writers, expire_on_commit=False) as session, session.begin():
                    return work(session)
            except (db_exc.DBError, Raced) as error:
                if not _is_transient(error) or attempt == ATTEMPTS:
                    raise _explained(error) from error
                LOG.info("transaction=repeated attempt=%d cause=%s", attempt, type(error).__name__)
                self._sleep(random.uniform(0.005, 0.02) * 2**attempt)  # noqa: S311  (jitter)
        raise AssertionError("the loop returns or raises")


def connect(connection: str) -> Sessions:
    """Sessions on the database with this URL."""
    return _start(connection=connection)


def from_conf(conf: cfg.ConfigOpts) -> Sessions:
    """Sessions on the database that ``[database] connection`` names.

    `Misconfigured` says why it cannot be opened.
    """
    db_options.set_defaults(conf, connection=DEFAULT_CONNECTION)
    try:
        return _start(connection=conf.database.connection)
    except (db_exc.DBError, ArgumentError, ImportError, sqlite3.Error) as error:
        reason = str(error).splitlines()[0]
        raise Misconfigured(
            f"The database of [database] connection cannot be opened: {reason}. The URL must be "
            "right, and SQLite's file and its directory writable."
        ) from error


def _start(**options: Any) -> Sessions:
    context = enginefacade.transaction_context()
    context.configure(sqlite_fk=True, **options)
    engine: Engine = context.writer.get_engine()
    if engine.dialect.name == "sqlite":
        _tune_sqlite(engine)
    if engine.dialect.name in ("mysql", "mariadb"):
        _tune_mysql(engine)
    return Sessions(engine)


def _tune_mysql(engine: Engine) -> None:
    """Have transactions see what others have committed, as on PostgreSQL, and any character pass.

    By default all that a transaction reads is as old as its first question: who had waited for a
    lock would decide by what was so before. And oslo.db chooses a UTF-8 of three bytes.
    """

    @event.listens_for(engine, "connect")
    def _agree(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
            cursor.execute("SET NAMES utf8mb4 COLLATE utf8mb4_bin")

    engine.dispose()  # oslo.db has connected once, before there was a listener


def _tune_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA busy_timeout=10000")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    @event.listens_for(engine, "engine_connect")
    def _begin_immediate(connection: Connection) -> None:
        """Runs before oslo.db's own BEGIN, which is left out where something has begun."""
        if connection.get_execution_options().get(_WRITER):
            try:
                connection.connection.dbapi_connection.execute("BEGIN IMMEDIATE")  # type: ignore
            except sqlite3.OperationalError as error:
                raise db_exc.DBDeadlock(error) from error
            connection.info["in_transaction"] = True


def _anchored(engine: Engine) -> PoolProxiedConnection | None:
    """A connection that stays open. oslo.db does not pool those of SQLite, and each time the
    last one closes, SQLite writes its log back into the file and syncs it: 10 ms per request.
    """
    if engine.dialect.name != "sqlite":
        return None
    connection = engine.raw_connection()
    connection.cursor().execute("SELECT count(*) FROM sqlite_master").fetchall()
    return connection


def _is_transient(error: Exception) -> bool:
    return isinstance(
        error, Raced | db_exc.DBDeadlock | db_exc.DBDuplicateEntry | db_exc.DBConnectionError
    ) or "database is locked" in str(error)


def _explained(error: Exception) -> Exception:
    if isinstance(error, db_exc.DBDuplicateEntry | db_exc.DBReferenceError):
        return Conflict("The object collides with one that was written meanwhile.", str(error))
    if isinstance(error, db_exc.DBNonExistentTable):
        return Unavailable(
            "The database has no tables of this release; have `cloudlb-manage db sync` run.",
            str(error),
        )
    if _is_transient(error):
        return Unavailable("The database is busy; try again.", str(error))
    return error


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except db_exc.DBError as error:
        raise _explained(error) from error
