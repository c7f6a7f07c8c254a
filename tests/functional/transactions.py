# SPDX-License-Identifier: Apache-2.0
"""What transactions ask of the database, and whether that keeps the order of locks."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, event

_LOCK = re.compile(r"FROM (\w+).*(FOR UPDATE|FOR SHARE|LOCK IN SHARE MODE)", re.DOTALL)
_LOCK_OF_HOSTS = re.compile(r"FROM hosts\s+WHERE hosts.name IN \(.*ORDER BY hosts.name", re.DOTALL)
_WRITE = re.compile(r"(?:INSERT INTO|UPDATE|DELETE FROM) (\w+)")
_RAISE = re.compile(r"UPDATE hosts SET generation=\(hosts.generation \+")
_OF_HOSTS = {"hosts", "realizations", "servers", "sightings", "quarantines"}


@dataclass
class Transaction:
    """The statements of a transaction, with their parameters."""

    statements: list[tuple[str, Any]] = field(default_factory=list)

    def places(self, pattern: re.Pattern[str]) -> list[int]:
        """Which statements match."""
        return [n for n, (text, _) in enumerate(self.statements) if pattern.search(text)]

    def names(self, place: int) -> list[str]:
        """The texts among the parameters of a statement, in their order."""
        given = self.statements[place][1]
        values = given.values() if isinstance(given, dict) else given
        return [value for value in values if isinstance(value, str)]

    @property
    def raised(self) -> list[str]:
        """The hosts whose generation it raised, once for each time."""
        return [name for place in self.places(_RAISE) for name in self.names(place)]

    def check(self) -> None:
        """Hosts are locked once, in order, after all else; what is kept for them is written
        after that; their generations are raised by one statement, the last.
        """
        locked = self.places(_LOCK_OF_HOSTS)
        assert len(locked) <= 1, self.statements
        for place in locked:
            assert self.names(place) == sorted(self.names(place))
        begin = locked[0] if locked else len(self.statements)
        for text, _ in self.statements[:begin]:
            written = _WRITE.match(text)
            assert not written or written[1] not in _OF_HOSTS, (text, self.statements)
        for text, _ in self.statements[begin + 1 :]:
            assert not _LOCK.search(text), (text, self.statements)
        assert self.places(_RAISE) in ([], [len(self.statements) - 1]), self.statements
        assert self.raised == sorted(set(self.raised))


@contextmanager
def recorded(engine: Engine) -> Iterator[list[Transaction]]:
    """The transactions of a block that has one connection at a time."""
    found: list[Transaction] = []

    def begin(_connection: Connection) -> None:
        found.append(Transaction())

    def note(_c: object, _cursor: object, text: str, parameters: Any, *_rest: object) -> None:
        if found and not text.startswith(("BEGIN", "PRAGMA")):
            found[-1].statements.append((text, parameters))

    event.listen(engine, "begin", begin)
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(engine, "begin", begin)
        event.remove(engine, "before_cursor_execute", note)
