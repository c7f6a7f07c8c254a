# SPDX-License-Identifier: Apache-2.0
"""The tables. Instances never leave this package: repositories return frozen model objects.

Spec tables hold what users asked for, with ``generation`` and the mark ``deleted_at``; inventory
tables hold what agents saw; ``realizations`` holds how far each host is with each pool.
"""

from datetime import UTC, datetime
from typing import Annotated, Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    UniqueConstraint,
    false,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


class Moment(TypeDecorator[float]):
    """Seconds since the epoch in Python, a UTC date and time in the database."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        """Microseconds also on MySQL and MariaDB, whose default is whole seconds."""
        kind = mysql.DATETIME(fsp=6) if dialect.name in ("mysql", "mariadb") else DateTime()
        return dialect.type_descriptor(kind)

    def process_bind_param(self, value: float | None, _dialect: Dialect) -> datetime | None:
        """To the database."""
        if value is None:
            return None
        return datetime.fromtimestamp(value, UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any | None, _dialect: Dialect) -> float | None:
        """From the database."""
        return None if value is None else value.replace(tzinfo=UTC).timestamp()


Key = Annotated[str, mapped_column(String(36), primary_key=True)]
Uuid = Annotated[str, mapped_column(String(36))]
HostName = Annotated[str, mapped_column(String(255))]
Label = Annotated[str, mapped_column(String(255))]
Word = Annotated[str, mapped_column(String(32))]
AddressText = Annotated[str, mapped_column(String(45))]
MacText = Annotated[str, mapped_column(String(17))]
Counter = Annotated[int, mapped_column(BigInteger)]
Time = Annotated[float, mapped_column(Moment)]


class Base(DeclarativeBase):
    """Names constraints alike on every database, so that alembic can find them again."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {list[Any]: JSON, dict[str, Any]: JSON, bool: Boolean}  # noqa: RUF012


class SequenceRow(Base):
    """The last number given for a purpose; numbers are never given twice."""

    __tablename__ = "sequences"
    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[Counter]


class NetworkRow(Base):
    """A network."""

    __tablename__ = "networks"
    id: Mapped[Key]
    project_id: Mapped[Label] = mapped_column(index=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    number: Mapped[Counter] = mapped_column(unique=True)
    prefixes: Mapped[list[Any]]
    vip_range: Mapped[list[Any]]
    generation: Mapped[Counter]
    created_at: Mapped[Time]
    updated_at: Mapped[Time]


class PoolRow(Base):
    """What is wanted of a pool. The address stays taken until the row goes."""

    __tablename__ = "pools"
    __table_args__ = (UniqueConstraint("network_id", "address"),)
    id: Mapped[Key]
    project_id: Mapped[Label] = mapped_column(index=True)
    network_id: Mapped[Uuid] = mapped_column(ForeignKey("networks.id"))
    name: Mapped[Label] = mapped_column(index=True)
    description: Mapped[str] = mapped_column(String(1024))
    address: Mapped[AddressText]
    ports: Mapped[list[Any]]
    data_plane: Mapped[Label]
    scheduler: Mapped[Word]
    rotation_order: Mapped[Word] = mapped_column(server_default="interleaved")
    connection_count: Mapped[Word] = mapped_column(server_default="active")
    persistence: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    timeouts: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    directors: Mapped[list[Any]]
    failover: Mapped[Word] = mapped_column(server_default="preempt")
    virtual_router: Mapped[int] = mapped_column(Integer, server_default="0")
    forwarding: Mapped[Word | None]
    entry_host: Mapped[HostName | None]
    translation: Mapped[Word | None]
    masquerade: Mapped[bool] = mapped_column(server_default=false())
    client_address: Mapped[Word | None]
    monitor: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    down_action: Mapped[Word] = mapped_column(server_default="keep")
    panic_threshold: Mapped[int] = mapped_column(Integer, server_default="0")
    drain_timeout: Mapped[int] = mapped_column(Integer)
    admin_state_up: Mapped[bool]
    generation: Mapped[Counter]
    created_at: Mapped[Time]
    updated_at: Mapped[Time]
    deleted_at: Mapped[float | None] = mapped_column(Moment, index=True)


class MemberRow(Base):
    """What is wanted of a member, and what the newest health report said of it."""

    __tablename__ = "members"
    __table_args__ = (UniqueConstraint("pool_id", "server"),)
    id: Mapped[Key]
    project_id: Mapped[Label]
    pool_id: Mapped[Uuid] = mapped_column(ForeignKey("pools.id", ondelete="CASCADE"))
    server: Mapped[Uuid] = mapped_column(index=True)
    server_name: Mapped[Label]
    name: Mapped[Label]
    port: Mapped[int | None] = mapped_column(Integer)
    weight: Mapped[int] = mapped_column(Integer)
    backup: Mapped[bool] = mapped_column(server_default=false())
    remote: Mapped[AddressText] = mapped_column(server_default="")
    prepared: Mapped[bool] = mapped_column(server_default=false())
    admin_state_up: Mapped[bool]
    generation: Mapped[Counter]
    health: Mapped[Word]
    health_reason: Mapped[str] = mapped_column(String(1024))
    health_host: Mapped[HostName]
    health_revision: Mapped[Counter]
    created_at: Mapped[Time]
    updated_at: Mapped[Time]
    deleted_at: Mapped[float | None] = mapped_column(Moment, index=True)


class HostRow(Base):
    """A host, the generation of what is wanted of it, and its newest inventory."""

    __tablename__ = "hosts"
    name: Mapped[HostName] = mapped_column(primary_key=True)
    roles: Mapped[list[Any]]
    engine: Mapped[Label]
    uplinks: Mapped[list[Any]]
    management: Mapped[AddressText] = mapped_column(server_default="")
    generation: Mapped[Counter]
    observed_generation: Mapped[Counter]
    inventory_revision: Mapped[Counter]
    last_seen: Mapped[float | None] = mapped_column(Moment)


class ServerRow(Base):
    """A server as one host sees it. During a migration two hosts may see the same one.

    ``since``: when the host first saw it as it is; among equals the newest word wins.
    """

    __tablename__ = "servers"
    host: Mapped[HostName] = mapped_column(
        ForeignKey("hosts.name", ondelete="CASCADE"), primary_key=True
    )
    id: Mapped[Key] = mapped_column(index=True)
    name: Mapped[Label] = mapped_column(index=True)
    owner: Mapped[Word]
    running: Mapped[bool]
    project_id: Mapped[Label] = mapped_column(index=True)
    interfaces: Mapped[list[Any]]
    since: Mapped[Time]


class SightingRow(Base):
    """An address that a host or one of its guests holds; ``server`` is empty for the host's."""

    __tablename__ = "sightings"
    __table_args__ = (Index(None, "network", "address"),)
    host: Mapped[HostName] = mapped_column(
        ForeignKey("hosts.name", ondelete="CASCADE"), primary_key=True
    )
    network: Mapped[str] = mapped_column(String(64), primary_key=True)
    mac: Mapped[MacText] = mapped_column(primary_key=True)
    address: Mapped[AddressText] = mapped_column(primary_key=True)
    server: Mapped[Uuid]


class RealizationRow(Base):
    """How far a host is with a pool: ``generation`` is wanted, ``observed_generation`` done.

    ``revision`` is that of the host's newest word.
    """

    __tablename__ = "realizations"
    pool_id: Mapped[Key] = mapped_column(ForeignKey("pools.id", ondelete="CASCADE"))
    host: Mapped[HostName] = mapped_column(ForeignKey("hosts.name"), primary_key=True, index=True)
    generation: Mapped[Counter]
    observed_generation: Mapped[Counter]
    state: Mapped[Word]
    reason: Mapped[str] = mapped_column(String(1024))
    draining: Mapped[list[Any]]
    announcing: Mapped[bool] = mapped_column(server_default=false())
    revision: Mapped[Counter] = mapped_column(default=0)
    since: Mapped[Time]


class KeyRow(Base):
    """What agents sign messages to each other with."""

    __tablename__ = "keys"
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    secret: Mapped[str] = mapped_column(String(64))
    since: Mapped[Time]


class QuarantineRow(Base):
    """An address that a silent host may still answer for.

    The host is told to remove the pool from ``generation`` on. The address is free again when it
    says that this is done, or is declared gone.
    """

    __tablename__ = "quarantines"
    network_id: Mapped[Key] = mapped_column(ForeignKey("networks.id"))
    address: Mapped[AddressText] = mapped_column(primary_key=True)
    host: Mapped[HostName] = mapped_column(
        ForeignKey("hosts.name", ondelete="CASCADE"), primary_key=True, index=True
    )
    pool_id: Mapped[Uuid]
    data_plane: Mapped[Label]
    generation: Mapped[Counter]
    since: Mapped[Time]
