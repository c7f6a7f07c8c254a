# SPDX-License-Identifier: Apache-2.0
"""Pools that their members' hosts direct. Expand: processes of revision 0005 go on working."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None
phase = "expand"


def upgrade() -> None:
    """Add the column; pools that exist have directors of their own."""
    with op.batch_alter_table("pools") as pools:
        pools.add_column(sa.Column("forwarding", sa.String(32), nullable=True))
