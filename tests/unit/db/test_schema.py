# SPDX-License-Identifier: Apache-2.0
"""Bringing the tables to the newest revision."""

from pathlib import Path

from sqlalchemy import text

from cloudlb.db import schema, session


def test_a_synced_database_is_at_the_head_and_differs_in_nothing(tmp_path: Path) -> None:
    sessions = session.connect(f"sqlite:///{tmp_path}/x.sqlite")
    assert schema.version(sessions) is None
    schema.sync(sessions)
    schema.sync(sessions)
    assert schema.version(sessions) == schema.newest()
    assert schema.differences(sessions) == []
    sessions.close()


def test_a_difference_is_told(tmp_path: Path) -> None:
    sessions = session.connect(f"sqlite:///{tmp_path}/x.sqlite")
    schema.sync(sessions)
    with sessions.engine.begin() as connection:
        connection.execute(text("DROP INDEX ix_pools_name"))
    assert "ix_pools_name" in schema.differences(sessions)[0]
    sessions.close()
