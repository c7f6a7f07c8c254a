# SPDX-License-Identifier: Apache-2.0
"""How busy a host is, of what procfs says."""

import socket
from pathlib import Path

import pytest

from cloudlb.net.usage import CpuTime, cpu_time, tcp_sockets

pytestmark = pytest.mark.requirement("D5")
STAT = """\
cpu  100 5 45 700 50 10 20 70 9 0
cpu0 1 2 3 4 5 6 7 8 9 10
"""
SOCKETS4 = "sockets: used 40\nTCP: inuse 5 orphan 0 tw 2 alloc 9 mem 1\nUDP: inuse 3 mem 0\n"
SOCKETS6 = "TCP6: inuse 4\nUDP6: inuse 1\n"


def test_processors_are_busy_with_all_but_idling_and_waiting(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text(STAT)
    assert cpu_time(stat) == CpuTime(busy=250, total=1000)


def test_the_share_is_that_between_two_readings() -> None:
    assert CpuTime(250, 1000).percent_since(CpuTime(200, 800)) == 25
    assert CpuTime(250, 1000).percent_since(CpuTime(250, 1000)) == 0


def test_sockets_of_both_families_count(tmp_path: Path) -> None:
    tables = tmp_path / "sockstat", tmp_path / "sockstat6"
    for path, text in zip(tables, (SOCKETS4, SOCKETS6), strict=True):
        path.write_text(text)
    assert tcp_sockets(*tables) == 9


def test_this_host_can_be_read() -> None:
    with socket.create_server(("127.0.0.1", 0)):
        assert tcp_sockets() > 0
    assert cpu_time().total >= cpu_time().busy > 0
