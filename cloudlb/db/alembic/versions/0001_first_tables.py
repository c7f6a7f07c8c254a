# SPDX-License-Identifier: Apache-2.0
"""The first tables."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql
from sqlalchemy.schema import SchemaItem

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None
phase = "expand"

# On MariaDB names are compared exactly and hold any character, whatever its administrator prefers.
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
    """Create every table."""
    _hosts()
    _networks()
    _sequences()
    _pools()
    _quarantines()
    _servers()
    _sightings()
    _members()
    _realizations()


def _create_table(name: str, *parts: SchemaItem) -> None:
    op.create_table(name, *parts, **_EXACT)


def _hosts() -> None:
    _create_table(
        "hosts",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("engine", sa.String(length=255), nullable=False),
        sa.Column("uplinks", sa.JSON(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("observed_generation", sa.BigInteger(), nullable=False),
        sa.Column("inventory_revision", sa.BigInteger(), nullable=False),
        sa.Column("last_seen", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_hosts")),
    )


def _networks() -> None:
    _create_table(
        "networks",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("prefixes", sa.JSON(), nullable=False),
        sa.Column("vip_range", sa.JSON(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_networks")),
        sa.UniqueConstraint("name", name=op.f("uq_networks_name")),
        sa.UniqueConstraint("number", name=op.f("uq_networks_number")),
    )
    op.create_index(op.f("ix_networks_project_id"), "networks", ["project_id"], unique=False)


def _sequences() -> None:
    _create_table(
        "sequences",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sequences")),
    )


def _pools() -> None:
    _create_table(
        "pools",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=255), nullable=False),
        sa.Column("network_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=1024), nullable=False),
        sa.Column("address", sa.String(length=45), nullable=False),
        sa.Column("ports", sa.JSON(), nullable=False),
        sa.Column("data_plane", sa.String(length=255), nullable=False),
        sa.Column("scheduler", sa.String(length=32), nullable=False),
        sa.Column("directors", sa.JSON(), nullable=False),
        sa.Column("monitor", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("drain_timeout", sa.Integer(), nullable=False),
        sa.Column("admin_state_up", sa.Boolean(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("deleted_at", _MOMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["network_id"], ["networks.id"], name=op.f("fk_pools_network_id_networks")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pools")),
        sa.UniqueConstraint("network_id", "address", name=op.f("uq_pools_network_id_address")),
    )
    op.create_index(op.f("ix_pools_deleted_at"), "pools", ["deleted_at"], unique=False)
    op.create_index(op.f("ix_pools_name"), "pools", ["name"], unique=False)
    op.create_index(op.f("ix_pools_project_id"), "pools", ["project_id"], unique=False)


def _quarantines() -> None:
    _create_table(
        "quarantines",
        sa.Column("network_id", sa.String(length=36), nullable=False),
        sa.Column("address", sa.String(length=45), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("pool_id", sa.String(length=36), nullable=False),
        sa.Column("data_plane", sa.String(length=255), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("since", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["host"], ["hosts.name"], name=op.f("fk_quarantines_host_hosts"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["network_id"], ["networks.id"], name=op.f("fk_quarantines_network_id_networks")
        ),
        sa.PrimaryKeyConstraint("network_id", "address", "host", name=op.f("pk_quarantines")),
    )
    op.create_index(op.f("ix_quarantines_host"), "quarantines", ["host"], unique=False)


def _servers() -> None:
    _create_table(
        "servers",
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("owner", sa.String(length=32), nullable=False),
        sa.Column("running", sa.Boolean(), nullable=False),
        sa.Column("project_id", sa.String(length=255), nullable=False),
        sa.Column("interfaces", sa.JSON(), nullable=False),
        sa.Column("since", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["host"], ["hosts.name"], name=op.f("fk_servers_host_hosts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("host", "id", name=op.f("pk_servers")),
    )
    op.create_index(op.f("ix_servers_id"), "servers", ["id"], unique=False)
    op.create_index(op.f("ix_servers_name"), "servers", ["name"], unique=False)
    op.create_index(op.f("ix_servers_project_id"), "servers", ["project_id"], unique=False)


def _sightings() -> None:
    _create_table(
        "sightings",
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("network", sa.String(length=64), nullable=False),
        sa.Column("mac", sa.String(length=17), nullable=False),
        sa.Column("address", sa.String(length=45), nullable=False),
        sa.Column("server", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(
            ["host"], ["hosts.name"], name=op.f("fk_sightings_host_hosts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("host", "network", "mac", "address", name=op.f("pk_sightings")),
    )
    op.create_index(
        op.f("ix_sightings_network_address"), "sightings", ["network", "address"], unique=False
    )


def _members() -> None:
    _create_table(
        "members",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=255), nullable=False),
        sa.Column("pool_id", sa.String(length=36), nullable=False),
        sa.Column("server", sa.String(length=36), nullable=False),
        sa.Column("server_name", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("port", sa.Integer(), nullable=True),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.Column("admin_state_up", sa.Boolean(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("health", sa.String(length=32), nullable=False),
        sa.Column("health_reason", sa.String(length=1024), nullable=False),
        sa.Column("health_host", sa.String(length=255), nullable=False),
        sa.Column("health_revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("deleted_at", _MOMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["pool_id"], ["pools.id"], name=op.f("fk_members_pool_id_pools"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_members")),
        sa.UniqueConstraint("pool_id", "server", name=op.f("uq_members_pool_id_server")),
    )
    op.create_index(op.f("ix_members_deleted_at"), "members", ["deleted_at"], unique=False)
    op.create_index(op.f("ix_members_server"), "members", ["server"], unique=False)


def _realizations() -> None:
    _create_table(
        "realizations",
        sa.Column("pool_id", sa.String(length=36), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("observed_generation", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.String(length=1024), nullable=False),
        sa.Column("draining", sa.JSON(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("since", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name=op.f("fk_realizations_host_hosts")),
        sa.ForeignKeyConstraint(
            ["pool_id"],
            ["pools.id"],
            name=op.f("fk_realizations_pool_id_pools"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("pool_id", "host", name=op.f("pk_realizations")),
    )
    op.create_index(op.f("ix_realizations_host"), "realizations", ["host"], unique=False)
