# SPDX-License-Identifier: Apache-2.0
"""Several directors of a pool. Expand: processes of revision 0002 go on working."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None
phase = "expand"

_EXACT: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in {
        "engine": "InnoDB",
        "charset": "utf8mb4",
        "collate": "utf8mb4_bin",
    }.items()
}
_MOMENT = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def upgrade() -> None:
    """Add the columns; pools that exist have one director, which needs no election."""
    op.create_table(
        "keys",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("secret", sa.String(length=64), nullable=False),
        sa.Column("since", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_keys")),
        **_EXACT,
    )
    with op.batch_alter_table("pools") as pools:
        pools.add_column(
            sa.Column("failover", sa.String(length=32), nullable=False, server_default="preempt")
        )
        pools.add_column(
            sa.Column("virtual_router", sa.Integer(), nullable=False, server_default="0")
        )
    with op.batch_alter_table("hosts") as hosts:
        hosts.add_column(
            sa.Column("management", sa.String(length=45), nullable=False, server_default="")
        )
    with op.batch_alter_table("realizations") as realizations:
        realizations.add_column(
            sa.Column("announcing", sa.Boolean(), nullable=False, server_default=sa.false())
        )
