# SPDX-License-Identifier: Apache-2.0
"""Bringing the tables to the newest revision, and telling which one they have."""

from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from cloudlb.db.models import Base
from cloudlb.db.session import Sessions

_HERE = Path(__file__).parent / "alembic"


def sync(sessions: Sessions) -> None:
    """Bring the tables to the newest revision; does nothing where they have it."""
    with sessions.engine.begin() as connection:
        command.upgrade(_config(connection), "head")


def version(sessions: Sessions) -> str | None:
    """The revision that the tables have, None before the first `sync`."""
    with sessions.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def newest() -> str | None:
    """The newest revision that this release knows."""
    return ScriptDirectory(str(_HERE)).get_current_head()


def differences(sessions: Sessions) -> list[str]:
    """What differs between the tables and the models, in words; empty if nothing does."""
    with sessions.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        return [str(difference) for difference in compare_metadata(context, Base.metadata)]


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_HERE))
    config.attributes["connection"] = connection
    return config
