# SPDX-License-Identifier: Apache-2.0
import argparse

import pytest

from cloudlb.client.osc import arguments
from cloudlb.schemas import member, monitor, pool

PORT = pool.SERVICE
WEIGHT = member.SPEC["weight"]


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        (PORT, "tcp:80", {"protocol": "tcp", "port": 80}),
        (PORT, "udp:53", {"protocol": "udp", "port": 53}),
        (monitor.MONITOR, "type=icmp", {"type": "icmp"}),
        (
            monitor.MONITOR,
            "type=tcp,interval=0.5,rise=3,port=8080",
            {"type": "tcp", "interval": 0.5, "rise": 3, "port": 8080},
        ),
        (
            monitor.MONITOR,
            "http,expected_codes=200,202-204,path=/up?a=b",
            {"type": "http", "expected_codes": "200,202-204", "path": "/up?a=b"},
        ),
        (member.WRITE, "vm1", {"server": "vm1"}),
        (member.WRITE, "vm1,weight=0", {"server": "vm1", "weight": 0}),
        (member.WRITE, "address=192.0.2.9", {"address": "192.0.2.9"}),
        (member.WRITE, "vm1,admin_state_up=false", {"server": "vm1", "admin_state_up": False}),
        (pool.SPEC["ip_version"], "6", 6),
        (WEIGHT, "256", 256),
    ],
)
def test_reads_what_the_schema_describes(schema, text, value):
    assert arguments.read(schema, text) == value


@pytest.mark.parametrize(
    ("schema", "text", "complaint"),
    [
        (PORT, "80", "'80' is no port; write tcp:<port> or udp:<port>"),
        (PORT, "sctp:80", "'sctp' is none of tcp, udp"),
        (PORT, "tcp:web", "'web' is no integer"),
        (PORT, "tcp:65536", "65536 is not between 1 and 65535"),
        (monitor.MONITOR, "type=ftp", "type: 'ftp' is none of tcp, icmp"),
        (
            monitor.MONITOR,
            "type=tcp,intervall=1",
            "'intervall=1' is no setting; settings are t",
        ),
        (monitor.MONITOR, "type=tcp,rise", "'rise' is no setting"),
        (monitor.MONITOR, "", "'' is no setting"),
        (monitor.MONITOR, "http,interval=1,202", "'202' is no setting"),
        (monitor.MONITOR, "type=tcp,timeout=nan", "timeout: nan is not between"),
        (member.WRITE, "vm1,weight=300", "weight: 300 is not between 0 and 256"),
        (pool.SPEC["ip_version"], "5", "'5' is none of 4, 6"),
        ({"type": "integer", "minimum": 1}, "0", "0 is not 1 or more"),
    ],
)
def test_says_what_would_be_right(schema, text, complaint):
    with pytest.raises(argparse.ArgumentTypeError) as error:
        arguments.read(schema, text)
    assert complaint in str(error.value)


def test_choices_of_an_option_are_those_of_the_schema():
    parser = argparse.ArgumentParser()
    arguments.add(parser, "--scheduler", pool.SPEC)
    (option,) = (a for a in parser._actions if a.dest == "scheduler")
    assert option.choices == pool.SPEC["scheduler"]["enum"]
