# SPDX-License-Identifier: Apache-2.0
"""A process that cannot start says why in one line, and what would be right."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soak import choose

DEADLINE = 60.0


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of loopback on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def _config(directory: Path, port: int = 0, database: str = "", engine: str = "memory") -> Path:
    file = directory / "cloudlb.conf"
    file.write_text(
        f"""[DEFAULT]
transport_url = kombu+inprocess://
[api]
bind_port = {port}
[database]
connection = sqlite:///{database or directory / "cloudlb.sqlite"}
[agent]
engine = {engine}
libvirt_uri =
state_dir = {directory}
"""
    )
    return file


def _start(program: str, config: Path, *words: str) -> str:
    """What a program says on standard error before it ends with status 1, beside its log."""
    command = [sys.executable, "-W", "ignore", "-m", f"cloudlb.cmd.{program}"]
    done = subprocess.run(
        [*command, "--config-file", str(config), *words],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if " INFO " not in line]
    return line


@pytest.mark.parametrize("program", ["allinone", "api"])
def test_a_port_that_is_taken_is_named(program: str, taken: int, tmp_path: Path) -> None:
    assert _start(program, _config(tmp_path, port=taken)) == (
        f"cloudlb-{program}: The API cannot be served at 127.0.0.1 port {taken} ([api] bind_host, "
        "bind_port): another process listens there; stop it, or choose another port."
    )


@pytest.mark.parametrize(
    ("program", "words"), [("allinone", ()), ("conductor", ()), ("manage", ("db", "sync"))]
)
def test_a_database_that_cannot_be_opened_is_named(
    program: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    config = _config(tmp_path, database=f"{tmp_path}/nothing/cloudlb.sqlite")
    assert _start(program, config, *words) == (
        f"cloudlb-{program}: The database of [database] connection cannot be opened: "
        "(sqlite3.OperationalError) unable to open database file. The URL must be right, and "
        "SQLite's file and its directory writable."
    )


@pytest.mark.parametrize(
    ("program", "words"),
    [("allinone", ()), ("agent", ()), ("conductor", ()), ("api", ()), ("manage", ("db", "sync"))],
)
def test_a_file_that_does_not_exist_is_named(
    program: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    line = _start(program, tmp_path / "none.conf", *words)
    assert line.startswith(f"cloudlb-{program}: There is no file {tmp_path}/none.conf; ")


def test_an_engine_that_is_not_installed_is_named_with_those_that_are(tmp_path: Path) -> None:
    line = _start("agent", _config(tmp_path, engine="steam"))
    assert line == "cloudlb-agent: [agent] engine is 'steam'; there are ebpf, ipvs, memory."


def test_a_wsgi_server_gets_an_answer_and_the_log_the_reason(tmp_path: Path) -> None:
    program = (
        "from cloudlb.wsgi.api import application\n"
        "from falcon.testing import create_environ\n"
        "print(b''.join(application(create_environ('/v1'), lambda *told: print(*told))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env={**os.environ, "OS_CLOUDLB_CONFIG_FILES": f"{tmp_path}/none.conf"},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    assert done.stdout.startswith("503 Service Unavailable")
    assert "b'The service cannot start; its log says why.\\n'" in done.stdout
    assert f"There is no file {tmp_path}/none.conf" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "text", choose(["", "9000-8000"], ["many", "0-9", "61000-70000", "1-2-3"])
)
def test_what_is_no_range_of_ports_is_named(text: str, tmp_path: Path) -> None:
    config = _config(tmp_path)
    config.write_text(config.read_text() + f"nat_ports = {text}\n")
    assert f"[agent] nat_ports: '{text}' is no range of ports" in _start("allinone", config)


@pytest.mark.parametrize("text", choose(["memory:1"], ["connections:-1"]))
def test_a_part_of_no_load_is_named(text: str, tmp_path: Path) -> None:
    config = _config(tmp_path)
    config.write_text(config.read_text() + f"load_weights = {text}\n")
    line = _start("allinone", config)
    assert f"[agent] load_weights: {text} is no part of a load" in line
    assert "connections, cpu, passed_on, sockets" in line
