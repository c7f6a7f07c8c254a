# SPDX-License-Identifier: Apache-2.0
"""The links of the lab as `ip -batch` lines."""

from cloudlb.lab.network import host_batch, switch_batch
from cloudlb.lab.topology import HostSpec, Role

CLIENT = HostSpec("client", Role.CLIENT, 2)
COMPUTE = HostSpec("compute1", Role.COMPUTE, 4)
CONTROL = HostSpec("control", Role.CONTROL, 1)


def test_bridges_neither_wait_nor_snoop():
    bridges = [line for line in switch_batch("x", ()) if "type bridge" in line]
    assert len(bridges) == 2
    assert all("stp_state 0 forward_delay 0 mcast_snooping 0" in line for line in bridges)


def test_control_host_is_on_the_management_network_only():
    cables = [line for line in switch_batch("x", (CONTROL,)) if "type veth" in line]
    assert cables == [
        "link add mgmt-control type veth peer name mgmt0 address 52:54:00:61:00:01 netns x-control"
    ]


def test_client_has_its_tenant_addresses_on_the_uplink():
    lines = host_batch(CLIENT)
    assert "address add 10.60.0.2/24 dev eth0" in lines
    assert "address add fd60::2/64 dev eth0 nodad" in lines


def test_uplink_of_a_compute_host_is_a_port_without_addresses():
    lines = host_batch(COMPUTE)
    assert "link set eth0 addrgenmode none master br0" in lines
    assert "address add 10.60.0.4/24 dev br0" in lines
    assert not [line for line in lines if line.startswith("address") and "eth0" in line]
