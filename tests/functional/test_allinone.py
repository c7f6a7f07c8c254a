# SPDX-License-Identifier: Apache-2.0
"""cloudlb-allinone as it is started: one process, a file for a database, real HTTP."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

DEADLINE = 60.0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _write(directory: Path, **api: Any) -> Path:
    """A configuration that touches nothing outside of its directory."""
    config = directory / "cloudlb.conf"
    options = "\n".join(f"{name} = {value}" for name, value in api.items())
    config.write_text(
        f"""[DEFAULT]
host = here
[api]
{options}
[oslo_middleware]
enable_proxy_headers_parsing = true
[database]
connection = sqlite:///{directory}/cloudlb.sqlite
[agent]
roles = director,compute
engine = memory
libvirt_uri =
network_mappings = lan:lo
state_dir = {directory}/state
"""
    )
    return config


def _start(config: Path, out: int, errors: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "cloudlb.cmd.allinone",
            "--config-file",
            str(config),
        ],
        stdout=out,
        stderr=errors,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("OS_")},
    )


class AllInOne:
    """A running process and its API."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.port = directory, _free_port()
        self.config = _write(directory, bind_host="127.0.0.1", bind_port=self.port)
        self.start()

    def start(self) -> None:
        self.log = (self.directory / "log").open("w")
        self.process = _start(self.config, self.log.fileno(), subprocess.STDOUT)
        self.until("the API", self._answers)

    def _answers(self) -> bool:
        assert self.process.poll() is None, (self.directory / "log").read_text()
        try:
            return requests.get(self.url("/"), timeout=10).status_code == 300
        except requests.ConnectionError:
            return False

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def get(self, path: str) -> Any:
        answer = requests.get(self.url(path), timeout=40)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any) -> Any:
        answer = requests.post(self.url(path), json=body, timeout=40)
        assert answer.status_code in (201, 202), answer.text
        return answer.json()

    def until(self, what: str, holds: Any) -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + DEADLINE
        while not holds():
            assert time.monotonic() < deadline, f"{what} did not come about"
            time.sleep(0.05)

    def used(self) -> float:
        """Seconds of CPU so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        status = self.process.wait(DEADLINE)
        self.log.close()
        return status


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AllInOne]:
    """One process for the story that the tests of this module tell in their order."""
    made = AllInOne(tmp_path_factory.mktemp("allinone"))
    yield made
    if made.process.poll() is None:
        made.process.kill()
        made.process.wait()


@pytest.fixture(scope="module")
def pool(service: AllInOne) -> Any:
    """A pool that this host directs, made over HTTP."""
    network = {"name": "lan", "prefixes": ["192.0.2.0/24"], "vip_range": ["192.0.2.128/25"]}
    network_id = service.post("/v1/networks", {"network": network})["network"]["id"]
    service.until("the host", lambda: _is_known(service))
    spec = {
        "name": "web",
        "network_id": network_id,
        "ports": [{"protocol": "tcp", "port": 80}],
        "directors": ["here"],
    }
    return service.post("/v1/pools", {"pool": spec})["pool"]


def _is_known(service: AllInOne) -> bool:
    hosts = service.get("/v1/hosts")["hosts"]
    return [host["name"] for host in hosts if "director" in host["roles"]] == ["here"]


def _realized(service: AllInOne, pool: Any) -> bool:
    status = service.get(f"/v1/pools/{pool['id']}")["pool"]["status"]
    return bool(status["realized"]["state"] == "yes")


def test_the_host_is_known_with_what_it_has(service: AllInOne) -> None:
    service.until("the host", lambda: _is_known(service))
    (host,) = service.get("/v1/hosts")["hosts"]
    assert (host["name"], host["engine"], host["alive"]) == ("here", "memory", True)


def test_a_pool_is_realized_by_the_agent_in_the_same_process(service: AllInOne, pool: Any) -> None:
    service.until("the pool", lambda: _realized(service, pool))


def test_counters_come_from_the_agent(service: AllInOne, pool: Any) -> None:
    stats = service.get(f"/v1/pools/{pool['id']}/stats")["stats"]
    assert (stats["members"], stats["missing"]) == ([], [])


def test_the_headers_of_a_proxy_reach_the_api(service: AllInOne) -> None:
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "lb.example.org"}
    version = requests.get(service.url("/v1"), headers=headers, timeout=40).json()["version"]
    assert version["links"] == [{"rel": "self", "href": "https://lb.example.org/v1/"}]


def test_the_snapshot_is_kept_on_disk(service: AllInOne, pool: Any) -> None:
    file = service.directory / "state" / "snapshot.json"

    def holds_the_pool() -> bool:
        views = json.loads(file.read_text())["snapshot"]["pools"] if file.exists() else []
        return [view["pool"]["id"] for view in views] == [pool["id"]]

    service.until("the snapshot", holds_the_pool)


def test_it_takes_next_to_no_processor_while_nothing_is_asked(
    service: AllInOne, pool: Any
) -> None:
    before = service.used()
    time.sleep(3)
    assert service.used() - before < 1


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 0), (signal.SIGKILL, -9)], ids=["stopped", "killed"]
)
def test_it_starts_again_with_what_it_had_and_goes_on(
    service: AllInOne, pool: Any, number: signal.Signals, status: int
) -> None:
    assert service.stop(number) == status
    assert "Traceback" not in (service.directory / "log").read_text()
    service.start()
    url = service.url(f"/v1/pools/{pool['id']}?wait=30")
    answer = requests.patch(url, json={"pool": {"description": number.name}}, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["pool"]["status"]["realized"]["state"] == "yes"


def test_a_deleted_pool_goes(service: AllInOne, pool: Any) -> None:
    assert requests.delete(service.url(f"/v1/pools/{pool['id']}"), timeout=40).status_code == 202
    service.until("the end of the pool", lambda: service.get("/v1/pools")["pools"] == [])


@pytest.mark.parametrize("host", ["0.0.0.0", "api.example.org"])  # noqa: S104
def test_serving_on_another_address_than_loopback_is_refused(tmp_path: Path, host: str) -> None:
    config = _write(tmp_path, bind_host=host, bind_port=_free_port())
    process = _start(config, subprocess.DEVNULL, subprocess.PIPE)
    _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert errors == (
        f"cloudlb-allinone: [api] bind_host is {host}: without authentication the API may only "
        "be served on loopback; set it to 127.0.0.1 or ::1.\n"
    )
    assert not (tmp_path / "cloudlb.sqlite").exists()
