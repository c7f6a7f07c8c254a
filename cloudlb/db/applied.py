# SPDX-License-Identifier: Apache-2.0
"""Up to which generation hosts have applied what is wanted of them: derived, never stored.

What a host stores is the generation that its agent has taken. It has applied that one when it has
spoken of every pool as it is wanted: that it is realized or gone, or that it fails, and why.
"""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import func, select, union_all

from cloudlb.db.models import QuarantineRow, RealizationRow
from cloudlb.db.session import Session
from cloudlb.model.host import Host


def as_applied(session: Session, hosts: Sequence[Host]) -> list[Host]:
    """The hosts with the last generation before anything of which they have yet to speak."""
    names = [host.name for host in hosts]
    asked = select(RealizationRow.host, RealizationRow.generation).where(
        RealizationRow.host.in_(names),
        RealizationRow.observed_generation < RealizationRow.generation,
    )
    removed = select(QuarantineRow.host, QuarantineRow.generation).where(
        QuarantineRow.host.in_(names)
    )
    owed = union_all(asked, removed).subquery()
    query = select(owed.c.host, func.min(owed.c.generation)).group_by(owed.c.host)
    first = {name: generation for name, generation in session.execute(query)}
    return [_before(host, first[host.name]) if host.name in first else host for host in hosts]


def _before(host: Host, owed: int) -> Host:
    return replace(host, observed_generation=min(host.observed_generation, owed - 1))
