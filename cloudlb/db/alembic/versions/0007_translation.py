# SPDX-License-Identifier: Apache-2.0
"""Pools whose directors translate. Expand: processes of revision 0006 go on working."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None
phase = "expand"


def upgrade() -> None:
    """Add the column; the pools that exist are translated at the edge, or not at all."""
    with op.batch_alter_table("pools") as pools:
        pools.add_column(sa.Column("translation", sa.String(32), nullable=True))
