# SPDX-License-Identifier: Apache-2.0
"""What becomes of dead members' connections. Expand: processes of revision 0011 go on working."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None
phase = "expand"


def upgrade() -> None:
    """Add the column; the pools that exist keep such connections, as before."""
    with op.batch_alter_table("pools") as pools:
        pools.add_column(
            sa.Column("down_action", sa.String(32), nullable=False, server_default="keep")
        )
