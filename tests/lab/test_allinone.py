# SPDX-License-Identifier: Apache-2.0
"""One process on one host: director, compute host and control plane in one."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloudlb.lab.lab import Lab
from cloudlb.lab.topology import LAN_NETWORK4, VIP_RANGE4
from cloudlb.lab.traffic import Load
from tests.lab.control import wait_until

API = "http://127.0.0.1:9899/v1"
CONFIGURATION = """\
[DEFAULT]
host = compute2
[database]
connection = sqlite:////var/lib/allinone/cloudlb.sqlite
[api]
bind_port = 9899
[agent]
roles = director,compute
network_mappings = lan:br0
state_dir = /var/lib/allinone
bpffs = /sys/fs/bpf/allinone
"""


@pytest.fixture
def host(lab: Lab, tmp_path: Path) -> Iterator[Any]:
    """compute2 with cloudlb-allinone in place of its agent."""
    host = lab.host("compute2")
    host.service("agent").stop()
    (host.root / "var/lib/allinone").mkdir(exist_ok=True)
    (host.root / "var/lib/allinone/cloudlb.conf").write_text(CONFIGURATION)
    log = (tmp_path / "allinone.log").open("w")
    process = host.popen(
        [
            str(Path(sys.prefix) / "bin/cloudlb-allinone"),
            "--config-file=/var/lib/allinone/cloudlb.conf",
        ],
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    yield host
    process.terminate()
    assert process.wait(20) == 0
    log.close()
    host.service("agent").start()


def _request(host: Any, method: str, path: str, body: Any = None) -> Any:
    command = ["curl", "-s", "-f", "-m", "30", "-X", method, f"{API}{path}"]
    if body is not None:
        command += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    done = host.run(command, check=False)
    return json.loads(done.stdout) if done.returncode == 0 and done.stdout else None


def test_one_process_makes_a_pool_of_the_guests_of_its_own_host(lab: Lab, host: Any) -> None:
    wait_until("the host is known", lambda: (_request(host, "GET", "/hosts") or {}).get("hosts"))
    spec = {
        "name": "lan",
        "prefixes": [str(LAN_NETWORK4)],
        "vip_range": [str(VIP_RANGE4)],
    }
    network = _request(host, "POST", "/networks", {"network": spec})["network"]
    pool = wait_until(
        "the guests are known",
        lambda: _request(
            host,
            "POST",
            "/pools?wait=20",
            {
                "pool": {
                    "network_id": network["id"],
                    "name": "web",
                    "address": str(VIP_RANGE4[40]),
                    "ports": [{"protocol": "tcp", "port": 80}],
                    "members": [{"server": "vm3"}, {"server": "vm4"}],
                }
            },
        ),
    )["pool"]
    assert pool["status"]["realized"]["state"] == "yes", pool["status"]
    for name in ("vm3", "vm4"):
        lab.guest(name).run(["ip", "address", "add", f"{pool['address']}/32", "dev", "eth0"])
    result = Load.count(lab, f"http://{pool['address']}/", 20)
    for name in ("vm3", "vm4"):
        lab.guest(name).run(["ip", "address", "del", f"{pool['address']}/32", "dev", "eth0"])
    assert result["order"] == ["vm3", "vm4"] * 10
    stats = _request(host, "GET", f"/pools/{pool['id']}/stats")["stats"]
    assert stats["connections"] == 20
    assert stats["bytes_out"] > 0
    _request(host, "DELETE", f"/pools/{pool['id']}")
    wait_until("the pool is gone", lambda: _request(host, "GET", f"/pools/{pool['id']}") is None)
