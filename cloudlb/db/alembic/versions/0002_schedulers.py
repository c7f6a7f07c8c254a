# SPDX-License-Identifier: Apache-2.0
"""Variants of schedulers, and persistence. Expand: processes of revision 0001 go on working."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None
phase = "expand"


def upgrade() -> None:
    """Add the columns; pools that exist have the defaults."""
    word = sa.String(length=32)
    with op.batch_alter_table("pools") as pools:
        pools.add_column(
            sa.Column("rotation_order", word, nullable=False, server_default="interleaved")
        )
        pools.add_column(
            sa.Column("connection_count", word, nullable=False, server_default="active")
        )
        pools.add_column(sa.Column("persistence", sa.JSON(none_as_null=True), nullable=True))
