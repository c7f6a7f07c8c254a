# SPDX-License-Identifier: Apache-2.0
"""Time-outs of pools. Expand: processes of revision 0003 go on working."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None
phase = "expand"


def upgrade() -> None:
    """Add the column; pools that exist have the hosts' time-outs."""
    with op.batch_alter_table("pools") as pools:
        pools.add_column(sa.Column("timeouts", sa.JSON(none_as_null=True), nullable=True))
