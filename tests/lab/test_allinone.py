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
from cloudlb.lab.topology import HOSTS, LAN_NETWORK4, VIP_RANGE4
from cloudlb.lab.traffic import Load
from tests.lab.control import wait_until
from tests.soak import choose

MEMBERS = ("vm3", "vm4")
CLIENT = next(spec for spec in HOSTS if spec.name == "client")
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


@pytest.mark.requirement("L3")
@pytest.mark.parametrize(
    "way",
    choose(
        [{"data_plane": "dr"}, {"data_plane": "nat"}],
        [{"data_plane": "tun"}, {"data_plane": "nat", "translation": "full"}],
    ),
    ids=lambda way: "-".join(way.values()),
)
def test_one_process_makes_a_pool_of_the_guests_of_its_own_host(
    lab: Lab, host: Any, way: dict[str, str]
) -> None:
    wait_until("the host is known", lambda: (_request(host, "GET", "/hosts") or {}).get("hosts"))
    pool = wait_until("the guests are known", lambda: _made(host, way))
    assert pool["status"]["realized"]["state"] == "yes", pool["status"]
    held = f"{pool['address']}/32"
    for name in MEMBERS:
        if way["data_plane"] != "nat":
            lab.guest(name).run(["ip", "address", "add", held, "dev", "eth0"])
        lab.guest(name).run(["ip", "neigh", "flush", "dev", "eth0"])
        lab.guest(name).run(["ping", "-c", "1", "-W", "5", str(CLIENT.lan4)])
    wait_until("their own addresses are known", lambda: _is_ready(host, pool))
    result = Load.count(lab, f"http://{pool['address']}/", 20)
    for name in MEMBERS if way["data_plane"] != "nat" else ():
        lab.guest(name).run(["ip", "address", "del", held, "dev", "eth0"])
    assert result["order"] == list(MEMBERS) * 10
    stats = _request(host, "GET", f"/pools/{pool['id']}/stats")["stats"]
    assert stats["connections"] == 20
    assert stats["packets_in"] > 20 * 4
    assert 20 * 3 < stats["packets_out"] < 20 * 20
    _request(host, "DELETE", f"/pools/{pool['id']}")
    wait_until("the pool is gone", lambda: _request(host, "GET", f"/pools/{pool['id']}") is None)


def _made(host: Any, way: dict[str, str]) -> Any:
    """A pool of the host's guests in a network that is made for it; None if it cannot be yet."""
    known = _request(host, "GET", "/networks?name=lan")["networks"]
    if not known:
        spec = {"name": "lan", "prefixes": [str(LAN_NETWORK4)], "vip_range": [str(VIP_RANGE4)]}
        known = [_request(host, "POST", "/networks", {"network": spec})["network"]]
    spec = {
        "network_id": known[0]["id"],
        "name": "web",
        "address": str(VIP_RANGE4[40]),
        "ports": [{"protocol": "tcp", "port": 80}],
        "members": [{"server": name} for name in MEMBERS],
    }
    answer = _request(host, "POST", "/pools?wait=20", {"pool": spec | way})
    return answer and answer["pool"]


def _is_ready(host: Any, pool: dict[str, Any]) -> bool:
    now = _request(host, "GET", f"/pools/{pool['id']}")["pool"]
    known = all(any("." in a for a in m["addresses"]) for m in now["members"])
    return known and now["status"]["realized"]["state"] == "yes"
