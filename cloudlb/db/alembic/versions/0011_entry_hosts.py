# SPDX-License-Identifier: Apache-2.0
"""Entry hosts of distributed pools. Expand: processes of revision 0010 go on working."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None
phase = "expand"


def upgrade() -> None:
    """Add the column; the pools that exist have none."""
    with op.batch_alter_table("pools") as pools:
        pools.add_column(sa.Column("entry_host", sa.String(255)))
