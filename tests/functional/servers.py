# SPDX-License-Identifier: Apache-2.0
"""MariaDB and PostgreSQL of Debian's packages, as processes of the tests: sockets, no ports."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from cloudlb.lab.process import ProcessId, wait_for

SQLITE, MARIADB, POSTGRESQL = "sqlite", "mariadb", "postgresql"
on_servers = pytest.mark.parametrize("database", [MARIADB, POSTGRESQL], indirect=True)
on_all = pytest.mark.parametrize("database", [SQLITE, MARIADB, POSTGRESQL], indirect=True)

_PREFIX = "cloudlb-db-"
_OWNER = "owner"


class Server(ABC):
    """A database server with all its files in the directory ``home``.

    ``account`` is whose rights it has if the tests run as root: PostgreSQL refuses root's, and
    neither needs them. ``ending`` ends it at once; nobody wants its data again.
    """

    account: str
    programs: tuple[str, ...]
    ending: signal.Signals
    first: str

    def __init__(self, home: Path) -> None:
        self.home = home

    @abstractmethod
    def prepare(self) -> list[str]:
        """The command that makes the first files."""

    @abstractmethod
    def serve(self) -> list[str]:
        """The command that is the server."""

    @abstractmethod
    def url(self, name: str) -> str:
        """The URL of a database."""

    def create(self, name: str) -> str:
        """A new empty database; its URL."""
        engine = sqlalchemy.create_engine(self.url(self.first), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self.url(name)

    def listens(self) -> bool:
        """Whether it lets somebody in."""
        engine = sqlalchemy.create_engine(self.url(self.first))
        with contextlib.suppress(sqlalchemy.exc.OperationalError), engine.connect():
            return True
        return False


class MariaDb(Server):
    """MariaDB."""

    account = "nobody"
    programs = ("mariadb-install-db", "/usr/sbin/mariadbd")
    ending = signal.SIGKILL
    first = "mysql"

    def prepare(self) -> list[str]:
        own = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        return [self.programs[0], *self._files(), *own]

    def serve(self) -> list[str]:
        sockets = ["--skip-networking", f"--socket={self.home}/socket"]
        haste = ["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M"]
        return [self.programs[1], *self._files(), *sockets, *haste]

    def url(self, name: str) -> str:
        return f"mysql+pymysql://root@localhost/{name}?unix_socket={self.home}/socket"

    def _files(self) -> list[str]:
        return ["--no-defaults", f"--datadir={self.home}/data", "--innodb-log-file-size=8M"]


class PostgreSql(Server):
    """PostgreSQL. Debian keeps its programs by version."""

    account = "postgres"
    _bin = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/usr/lib/postgresql/bin"))
    programs = (f"{_bin}/initdb", f"{_bin}/postgres")
    ending = signal.SIGQUIT
    first = "postgres"

    def prepare(self) -> list[str]:
        how = ["--username=root", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
        return [self.programs[0], f"--pgdata={self.home}/data", *how]

    def serve(self) -> list[str]:
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.home),
            "dynamic_shared_memory_type": "mmap",
            "fsync": "off",
            "deadlock_timeout": "100ms",
        }
        chosen = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return [self.programs[1], "-D", f"{self.home}/data", *chosen]

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://root@/{name}?host={self.home}"


@contextlib.contextmanager
def running(kind: type[Server]) -> Iterator[Server]:
    """A server with data of its own. It ends with the block, or with this process."""
    for program in kind.programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing; make setup installs it")
    _remove_remains()
    home = Path(tempfile.mkdtemp(prefix=_PREFIX))  # pytest's own are closed to other accounts
    (home / _OWNER).write_text(f"{os.getpid()} {ProcessId.of(os.getpid()).started}")
    server = kind(home)
    try:
        if os.geteuid() == 0:
            shutil.chown(home, kind.account)
        with _serving(server):
            yield server
    finally:
        shutil.rmtree(home)


@contextlib.contextmanager
def _serving(server: Server) -> Iterator[None]:
    log = server.home / "log"
    with log.open("wb") as output:
        where = {"stdout": output, "stderr": output, "cwd": server.home}
        prepared = subprocess.run(_restricted(server, server.prepare()), check=False, **where)
        assert prepared.returncode == 0, log.read_text(errors="replace")
        process = subprocess.Popen(_restricted(server, server.serve()), **where)

    def ready() -> bool:
        assert process.poll() is None, log.read_text(errors="replace")
        return server.listens()

    try:
        wait_for(f"{server.programs[-1]} listens", ready, 60)
        yield
    finally:
        process.send_signal(server.ending)
        process.wait(30)


def _restricted(server: Server, command: list[str]) -> list[str]:
    """The command with no more rights than it needs; it is killed when this process dies."""
    account = [f"--reuid={server.account}", "--regid=nogroup", "--clear-groups"]
    return ["setpriv", "--pdeathsig=KILL", *(account if os.geteuid() == 0 else []), *command]


def _remove_remains() -> None:
    """The files of runs that were killed."""
    for home in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, ValueError):
            pid, started = map(int, (home / _OWNER).read_text().split())
            if not ProcessId(pid, started).alive():
                shutil.rmtree(home, ignore_errors=True)
