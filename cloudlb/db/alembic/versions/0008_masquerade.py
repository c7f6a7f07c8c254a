# SPDX-License-Identifier: Apache-2.0
"""Pools that masquerade. Expand: processes of revision 0007 go on working."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None
phase = "expand"


def upgrade() -> None:
    """Add the column; the pools that exist masquerade nothing."""
    with op.batch_alter_table("pools") as pools:
        pools.add_column(
            sa.Column("masquerade", sa.Boolean(), nullable=False, server_default=sa.false())
        )
