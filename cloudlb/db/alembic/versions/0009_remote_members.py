# SPDX-License-Identifier: Apache-2.0
"""Members on hosts without an agent. Expand: processes of revision 0008 go on working, and take
these for servers that no host reports.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None
phase = "expand"


def upgrade() -> None:
    """Add the columns; the members that exist are on hosts with an agent."""
    with op.batch_alter_table("members") as members:
        members.add_column(sa.Column("remote", sa.String(45), nullable=False, server_default=""))
        members.add_column(
            sa.Column("prepared", sa.Boolean(), nullable=False, server_default=sa.false())
        )
