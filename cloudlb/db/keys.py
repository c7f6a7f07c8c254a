# SPDX-License-Identifier: Apache-2.0
"""Keys by which agents know each other's messages: one deployment's, exchanged now and then."""

import secrets

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from cloudlb.db.models import HostRow, KeyRow
from cloudlb.model.snapshot import Key

_KEPT = 2
_OCTETS = 32


def everything(session: Session, now: float) -> tuple[Key, ...]:
    """The keys that are accepted, the newest last. Clocks of several processes may differ."""
    rows = session.scalars(select(KeyRow).order_by(KeyRow.number))
    return tuple(Key(row.number, row.secret, max(0.0, now - row.since)) for row in rows)


def is_due(session: Session, now: float, lifetime: float) -> bool:
    """Whether there is no key, or the newest one is older than ``lifetime``."""
    newest = session.scalar(select(KeyRow.since).order_by(KeyRow.number.desc()).limit(1))
    return newest is None or now - newest >= lifetime


def renew(session: Session, now: float) -> list[str]:
    """Make a key, and forget all but the one before; the hosts that are to hear of it.

    Two that do so at once collide at the number, and the second one finds that it is not due.
    """
    numbers = list(session.scalars(select(KeyRow.number).order_by(KeyRow.number)))
    number = numbers[-1] + 1 if numbers else 1
    secret = secrets.token_hex(_OCTETS)
    session.execute(insert(KeyRow).values(number=number, secret=secret, since=now))
    session.execute(delete(KeyRow).where(KeyRow.number <= number - _KEPT))
    return list(session.scalars(select(HostRow.name).order_by(HostRow.name)))
