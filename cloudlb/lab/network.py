# SPDX-License-Identifier: Apache-2.0
"""The lab's links: what `ip -batch` is given for the switch and for each host."""

import subprocess
from pathlib import Path

from cloudlb.lab.errors import LabError
from cloudlb.lab.topology import (
    BRIDGE,
    LAN,
    LAN_NETWORK4,
    LAN_NETWORK6,
    MANAGEMENT,
    MANAGEMENT_LINK,
    MANAGEMENT_NETWORK,
    SWITCH,
    UPLINK,
    HostSpec,
    Role,
)

PINS = Path("/run/netns")
"""Where `ip netns` pins namespaces."""

_PLAIN_BRIDGE = "type bridge stp_state 0 forward_delay 0 mcast_snooping 0"


def namespace(lab: str, name: str) -> str:
    """Name of the network namespace of a host or of the switch."""
    return f"{lab}-{name}"


def switch_batch(lab: str, hosts: tuple[HostSpec, ...]) -> list[str]:
    """Commands that make the two bridges and the cables to all hosts."""
    lines = ["link set lo up"]
    for bridge in (LAN, MANAGEMENT):
        lines += [f"link add {bridge} {_PLAIN_BRIDGE}", f"link set {bridge} addrgenmode none up"]
    for host in hosts:
        lines += cables(lab, host)
    return lines


def cables(lab: str, host: HostSpec) -> list[str]:
    """Commands that plug a host into the bridges."""
    lines = _cable(lab, host, MANAGEMENT, MANAGEMENT_LINK, host.management_mac)
    if host.on_lan:
        lines += _cable(lab, host, LAN, UPLINK, host.lan_mac)
    return lines


def _cable(lab: str, host: HostSpec, bridge: str, device: str, mac: str) -> list[str]:
    port = f"{bridge}-{host.name}"
    peer = f"name {device} address {mac} netns {namespace(lab, host.name)}"
    return [
        f"link add {port} type veth peer {peer}",
        f"link set {port} addrgenmode none master {bridge} up",
    ]


def host_batch(host: HostSpec) -> list[str]:
    """Commands that configure a host's links and addresses."""
    lines = [
        "link set lo up",
        f"address add {host.management}/{MANAGEMENT_NETWORK.prefixlen} dev {MANAGEMENT_LINK}",
        f"link set {MANAGEMENT_LINK} up",
    ]
    if not host.on_lan:
        return lines
    if host.role is Role.COMPUTE:
        lines += [
            f"link add {BRIDGE} address {host.lan_mac} {_PLAIN_BRIDGE}",
            f"link set {UPLINK} addrgenmode none master {BRIDGE}",
            f"link set {BRIDGE} up",
        ]
    device = host.lan_device
    return [
        *lines,
        f"link set {UPLINK} up",
        f"address add {host.lan4}/{LAN_NETWORK4.prefixlen} dev {device}",
        f"address add {host.lan6}/{LAN_NETWORK6.prefixlen} dev {device} nodad",
    ]


def connect(lab: str, hosts: tuple[HostSpec, ...]) -> None:
    """Make all links; the namespaces exist and are empty."""
    _batch(namespace(lab, SWITCH), switch_batch(lab, hosts))
    for host in hosts:
        _batch(namespace(lab, host.name), host_batch(host))


def plug(lab: str, host: HostSpec) -> None:
    """Make the links of one more host; its namespace exists and is empty."""
    _batch(namespace(lab, SWITCH), cables(lab, host))
    _batch(namespace(lab, host.name), host_batch(host))


def _batch(name: str, lines: list[str]) -> None:
    done = subprocess.run(
        ["ip", "-netns", name, "-batch", "-"],
        check=False,
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise LabError(f"the links of {name} were not made: {done.stderr.strip()}")
