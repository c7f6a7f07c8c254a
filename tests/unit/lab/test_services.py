# SPDX-License-Identifier: Apache-2.0
"""Configuration and commands of cloudlb's programs in the lab."""

from configparser import ConfigParser
from pathlib import Path

from cloudlb.lab.services import configuration, specs
from cloudlb.lab.topology import HOSTS

BY_NAME = {host.name: host for host in HOSTS}


def options(host):
    parser = ConfigParser()
    parser.read_string(configuration(BY_NAME[host]))
    return parser


def names(host):
    return [spec.name for spec in specs(BY_NAME[host], Path("/f"))]


def test_control_host_has_database_and_api():
    parser = options("control")
    assert parser["database"]["connection"] == "sqlite:////var/lib/cloudlb/cloudlb.sqlite"
    assert parser["api"]["bind_port"] == "9890"
    assert not parser.has_section("agent")
    assert names("control") == ["rabbitmq", "conductor", "api"]


def test_director_has_an_agent_without_libvirt():
    agent = options("director")["agent"]
    assert agent["roles"] == "director"
    assert agent["network_mappings"] == "lan:eth0"
    assert agent["libvirt_uri"] == ""
    assert names("director") == ["agent"]


def test_compute_host_has_an_agent_with_libvirt():
    agent = options("compute2")["agent"]
    assert agent["roles"] == "compute"
    assert agent["network_mappings"] == "lan:br0"
    assert agent["libvirt_uri"] == "qemu:///system"
    assert names("compute2") == ["libvirtd", "agent"]


def test_every_host_finds_the_broker_and_knows_its_own_name():
    for name in ("control", "director", "compute1", "compute2"):
        default = options(name)["DEFAULT"]
        assert default["transport_url"] == "rabbit://cloudlb:cloudlb@10.61.0.1:5672/"
        assert default["host"] == name


def test_client_runs_nothing():
    assert names("client") == []
