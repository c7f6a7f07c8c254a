# SPDX-License-Identifier: Apache-2.0
"""The whole API on SQLite, every response compared with its schema, the real conductor behind.

Tests that name one run on a database server instead.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg

from cloudlb import conf as configuration
from cloudlb.api.app import create_app
from cloudlb.conductor.conductor import Conductor
from cloudlb.db import schema, session
from cloudlb.db.models import Base
from tests.functional.control import NETWORK, Clock, Control, nic, server
from tests.functional.servers import SQLITE, MariaDb, PostgreSql, Server, running


@pytest.fixture(scope="session")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with all tables, to be copied."""
    path = tmp_path_factory.mktemp("db") / "synced.sqlite"
    sessions = session.connect(f"sqlite:///{path}")
    schema.sync(sessions)
    sessions.close()
    return path


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    """A MariaDB of this run's own."""
    with running(MariaDb) as server:
        yield server


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL of this run's own."""
    with running(PostgreSql) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_tables(mariadb: Server) -> str:
    """The URL of a database with all tables."""
    return _with_tables(mariadb.create("cloudlb"))


@pytest.fixture(scope="session")
def postgresql_tables(postgresql: Server) -> str:
    """The URL of a database with all tables."""
    return _with_tables(postgresql.create("cloudlb"))


def _with_tables(url: str) -> str:
    sessions = session.connect(url)
    schema.sync(sessions)
    sessions.close()
    return url


def _emptied(url: str) -> str:
    sessions = session.connect(url)
    with sessions.engine.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())
    sessions.close()
    return url


@pytest.fixture
def database(request: pytest.FixtureRequest, synced: Path, tmp_path: Path) -> str:
    """The URL of a database without rows: a file of SQLite, unless the test names a server."""
    name = getattr(request, "param", SQLITE)
    if name == SQLITE:
        path = tmp_path / "cloudlb.sqlite"
        shutil.copy(synced, path)
        return f"sqlite:///{path}"
    return _emptied(request.getfixturevalue(f"{name}_tables"))


@pytest.fixture(scope="session")
def conf() -> cfg.ConfigOpts:
    """The defaults of all options."""
    return configuration.load([], "cloudlb-tests")


@pytest.fixture
def control(database: str, conf: cfg.ConfigOpts) -> Iterator[Control]:
    """A control plane without any host."""
    sessions, clock, rung = session.connect(database), Clock(), []
    holder: list[Control] = []

    def ask(host: str, question: str, args: dict[str, Any]) -> Any:
        return holder[0].ask(host, question, args)

    app = create_app(conf, sessions, rung.append, ask, clock, check_responses=True)
    conductor = Conductor(sessions, rung.append, clock, conf.host_down_time)
    holder.append(Control(app, conductor, clock, rung))
    yield holder[0]
    sessions.close()


@pytest.fixture
def network(control: Control) -> dict[str, Any]:
    """A network of both families that offers a few addresses of each."""
    body = {
        "name": NETWORK,
        "prefixes": ["192.0.2.0/24", "2001:db8::/64"],
        "vip_range": ["192.0.2.128/29", "2001:db8::100/125"],
    }
    answer = control.post("/v1/networks", {"network": body})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json["network"]
    return found


@pytest.fixture
def cloud(control: Control, network: dict[str, Any]) -> Control:
    """A network, the director d1, and the hosts c1 (web1, web2) and c2 (web3)."""
    control.agent("d1", "director", address="192.0.2.1")
    control.agent("c1", "compute", address="192.0.2.2").found(
        server("web1", nic(1, NETWORK, "192.0.2.11", "2001:db8::11")),
        server("web2", nic(2, NETWORK, "192.0.2.12")),
    )
    control.agent("c2", "compute", address="192.0.2.3").found(
        server("web3", nic(3, NETWORK, "192.0.2.13")),
        server("other", nic(4, NETWORK, "192.0.2.14"), project="theirs"),
        server("plain", nic(5, NETWORK, "192.0.2.15"), project=""),
        server("lonely"),
        server("twin", nic(6, NETWORK), nic(7, NETWORK)),
        server("off", nic(8, NETWORK), on=False),
    )
    control.all_work()
    control.rung.clear()
    return control
