# SPDX-License-Identifier: Apache-2.0
"""Panic threshold and backup members. Expand: processes of revision 0004 go on working."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None
phase = "expand"


def upgrade() -> None:
    """Add the columns; pools and members that exist have the defaults."""
    with op.batch_alter_table("pools") as pools:
        pools.add_column(
            sa.Column("panic_threshold", sa.Integer(), nullable=False, server_default="0")
        )
    with op.batch_alter_table("members") as members:
        members.add_column(
            sa.Column("backup", sa.Boolean(), nullable=False, server_default=sa.false())
        )
