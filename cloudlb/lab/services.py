# SPDX-License-Identifier: Apache-2.0
"""cloudlb's own programs on the lab's hosts: their configuration, commands and readiness."""

import json
import sys
import time
from datetime import datetime
from pathlib import Path

from cloudlb.lab import broker
from cloudlb.lab.host import Host
from cloudlb.lab.hypervisor import LIBVIRTD, URI
from cloudlb.lab.process import wait_for
from cloudlb.lab.service import ServiceSpec
from cloudlb.lab.topology import LAN, HostSpec, Role

API_PORT = 9890
ENDPOINT = f"http://127.0.0.1:{API_PORT}"
OPENSTACK_ENVIRONMENT = {"OS_AUTH_TYPE": "none", "OS_ENDPOINT": ENDPOINT}
"""What the `openstack` command needs on the control host."""
STATE_DIRECTORY = "/var/lib/cloudlb"
AGENT = "agent"
_BIN = Path(sys.prefix) / "bin"


def config_path(host_state: Path) -> Path:
    """Path of a host's configuration file, the same inside and outside of the host."""
    return host_state / "cloudlb.conf"


def configuration(spec: HostSpec) -> str:
    """Text of a host's configuration file."""
    sections: dict[str, dict[str, str]] = {
        "DEFAULT": {
            "transport_url": broker.URL,
            "host": spec.name,
            "host_down_time": "8",
            "debug": "true",
        },
    }
    if spec.role is Role.CONTROL:
        sections["api"] = {"bind_port": str(API_PORT)}
        sections["database"] = {"connection": f"sqlite:///{STATE_DIRECTORY}/cloudlb.sqlite"}
    if spec.has_agent:
        sections["agent"] = {
            "network_mappings": f"{LAN}:{spec.lan_device}",
            "roles": spec.role.value,
            "state_dir": STATE_DIRECTORY,
            "bpffs": "/sys/fs/bpf/cloudlb",
            "report_interval": "2",
            "management_address": str(spec.management),
            "election_interval": "0.5",
            "libvirt_uri": URI if spec.role is Role.COMPUTE else "",
        }
    return "\n".join(
        "\n".join([f"[{section}]", *(f"{name} = {value}" for name, value in options.items()), ""])
        for section, options in sections.items()
    )


def specs(spec: HostSpec, config: Path) -> list[ServiceSpec]:
    """All services of a host, cloudlb's last, in the order in which they are started."""
    option = f"--config-file={config}"
    agent = ServiceSpec(AGENT, (str(_BIN / "cloudlb-agent"), option))
    if spec.role is Role.CONTROL:
        return [
            broker.RABBITMQ,
            ServiceSpec("conductor", (str(_BIN / "cloudlb-conductor"), option)),
            ServiceSpec("api", (str(_BIN / "cloudlb-api"), option)),
        ]
    if spec.role is Role.COMPUTE:
        return [LIBVIRTD, agent]
    return [agent] if spec.has_agent else []


def configure(host: Host) -> None:
    """Write a host's configuration file and make the services' own directory."""
    config_path(host.state).write_text(configuration(host.spec))
    (host.root / STATE_DIRECTORY.lstrip("/")).mkdir(exist_ok=True)


def start_control_plane(control: Host) -> None:
    """Make the database, then start conductor and API once the broker listens."""
    option = f"--config-file={config_path(control.state)}"
    control.run(["cloudlb-manage", option, "db", "sync"])
    broker.wait_ready(control)
    control.service("conductor").start()
    control.service("api").start()


def wait_control_plane(control: Host, seconds: float = 60) -> None:
    """Wait until the API says that it is healthy."""
    api = control.service("api")

    def healthy() -> bool:
        control.service("conductor").must_run()
        api.must_run()
        return _get(control, "/healthcheck") is not None

    wait_for("the API is healthy", healthy, seconds, f"see {api.log}", interval=0.2)


def wait_agents(control: Host, agents: list[Host], seconds: float = 60) -> None:
    """Wait until the API lists the agents of all given hosts as alive."""
    wanted = {host.name for host in agents}

    def listed() -> bool:
        for host in agents:
            host.service(AGENT).must_run()
        body = _get(control, "/v1/hosts")
        hosts = json.loads(body)["hosts"] if body else []
        return wanted <= {host["name"] for host in hosts if host["alive"]}

    logs = ", ".join(str(host.service(AGENT).log) for host in agents)
    wait_for(
        "GET /v1/hosts lists all agents as alive", listed, seconds, f"see {logs}", interval=0.2
    )


def wait_agent(control: Host, name: str, seconds: float = 60) -> None:
    """Wait until an agent that was started just now speaks, and has what is wanted of it."""
    started = time.time()

    def speaks() -> bool:
        found = json.loads(_get(control, f"/v1/hosts/{name}") or "{}").get("host")
        if not found:
            return False
        spoke = datetime.fromisoformat(found["last_seen"]).timestamp()
        return spoke > started and found["generation"] == found["observed_generation"]

    wait_for(f"the agent of {name} speaks again", speaks, seconds, interval=0.1)


def _get(control: Host, path: str) -> str | None:
    done = control.run(["busybox", "wget", "-q", "-O", "-", f"{ENDPOINT}{path}"], check=False)
    return done.stdout if done.returncode == 0 else None
