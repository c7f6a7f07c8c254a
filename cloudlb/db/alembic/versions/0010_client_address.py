# SPDX-License-Identifier: Apache-2.0
"""Pools that tell members of their clients. Expand: processes of revision 0009 go on working."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None
phase = "expand"


def upgrade() -> None:
    """Add the column; the pools that exist tell nothing."""
    with op.batch_alter_table("pools") as pools:
        pools.add_column(sa.Column("client_address", sa.String(32)))
