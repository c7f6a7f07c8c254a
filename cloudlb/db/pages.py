# SPDX-License-Identifier: Apache-2.0
"""Keyset pagination: a page begins after the marker, in order of creation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, and_, or_, select
from sqlalchemy.orm import Session

from cloudlb.model.errors import InvalidRequest

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Paging:
    """``limit`` objects after the one with id ``marker``."""

    limit: int
    marker: str | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of objects and whether there are more."""

    items: tuple[T, ...]
    more: bool = False


def fetch(session: Session, query: Select[Any], row: Any, paging: Paging) -> Page[Any]:
    """The rows of ``query`` on the table of ``row`` that belong to the page."""
    if paging.marker is not None:
        at = select(row.created_at).where(row.id == paging.marker).scalar_subquery()
        after = and_(row.created_at == at, row.id > paging.marker)
        query = query.where(or_(row.created_at > at, after))
    ordered = query.order_by(row.created_at, row.id).limit(paging.limit + 1)
    found = session.execute(ordered).all()
    if not found and paging.marker is not None:
        _check_marker(session, row.id, paging.marker)
    return cut(found, paging)


def cut(found: Sequence[T], paging: Paging) -> Page[T]:
    """The page from a result that was fetched one longer than the page."""
    return Page(tuple(found[: paging.limit]), len(found) > paging.limit)


def _check_marker(session: Session, column: Any, marker: str) -> None:
    if session.scalar(select(column).where(column == marker)) is None:
        raise InvalidRequest(
            f"There is no object {marker!r}; begin without a marker.", field="marker"
        )
