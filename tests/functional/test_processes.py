# SPDX-License-Identifier: Apache-2.0
"""API and conductor as they are deployed: a real server, several writers on one file."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import waitress
from oslo_config import cfg

from cloudlb.api.app import create_app
from cloudlb.db import alembic, session

WRITER = """
import sys
from cloudlb.conductor.conductor import Conductor
from cloudlb.db import session
from cloudlb.model.snapshot import Report
conductor = Conductor(session.connect(sys.argv[1]), lambda bell: None)
for n in range(60):
    conductor.report(f"{sys.argv[2]}{n % 5}", Report(0))
"""


@pytest.fixture
def url(database: str, conf: cfg.ConfigOpts) -> Iterator[str]:
    """The API behind a real HTTP server on loopback."""
    sessions = session.connect(database)
    app = create_app(conf, sessions, lambda _bell: None, lambda *_: {})
    server = waitress.create_server(app, host="127.0.0.1", port=0, threads=8)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.effective_port}"
    server.close()
    thread.join(5)
    sessions.close()


def test_the_api_answers_over_http(url: str) -> None:
    answer = requests.get(url, timeout=10)
    assert answer.status_code == 300
    assert answer.json()["versions"][0]["links"][0]["href"] == f"{url}/v1/"
    answer = requests.post(f"{url}/v1/pools", data="[", timeout=10)
    assert answer.status_code == 415
    answer = requests.post(f"{url}/v1/pools", json={"pool": {}}, timeout=10)
    assert (answer.status_code, answer.reason) == (400, "Bad Request")


def test_several_processes_write_to_one_file_without_an_error(url: str, database: str) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", WRITER, database, name],
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b")
    ]
    statuses = []
    for n in range(40):
        body = {"network": {"name": f"n{n}", "prefixes": ["10.0.0.0/8"]}}
        statuses.append(requests.post(f"{url}/v1/networks", json=body, timeout=30).status_code)
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert writer.returncode == 0, errors
    assert statuses == [201] * 40
    hosts = requests.get(f"{url}/v1/hosts", timeout=10).json()["hosts"]
    assert len(hosts) == 10


def _manage(config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "cloudlb.cmd.manage"]
    return subprocess.run(
        [*command, "--config-file", str(config), *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_manage_brings_a_database_to_the_newest_revision(tmp_path: Path) -> None:
    config = tmp_path / "cloudlb.conf"
    config.write_text(f"[database]\nconnection = sqlite:///{tmp_path}/new.sqlite\n")
    before = _manage(config, "db", "check")
    assert before.returncode == 1
    assert "run cloudlb-manage db sync" in before.stdout
    assert _manage(config, "db", "sync").returncode == 0
    newest = max(Path(alembic.__path__[0]).glob("versions/0*.py")).name[:4]
    assert _manage(config, "db", "version").stdout == f"{newest}\n"
    assert _manage(config, "db", "check").returncode == 0, before.stderr


def test_the_wsgi_application_reads_no_arguments(tmp_path: Path) -> None:
    config = tmp_path / "cloudlb.conf"
    config.write_text(
        f"[DEFAULT]\ntransport_url = kombu+inprocess://\n"
        f"[database]\nconnection = sqlite:///{tmp_path}/new.sqlite\n"
    )
    program = (
        "import sys; sys.argv = ['server', '--workers', '4']\n"
        "from cloudlb.wsgi.api import application\n"
        "from falcon.testing import create_environ\n"
        "got = []\n"
        "body = application(create_environ('/v1', remote_addr='127.0.0.1'), "
        "lambda status, headers: got.append(status))\n"
        "print(got[0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env={**os.environ, "OS_CLOUDLB_CONFIG_FILES": str(config)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "200 OK\n", done.stderr
