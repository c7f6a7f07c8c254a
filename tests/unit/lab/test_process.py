# SPDX-License-Identifier: Apache-2.0
"""Processes are known by pid and start time, so that nobody else's is ever ended."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from cloudlb.lab.errors import DeadlineError
from cloudlb.lab.process import ProcessId, in_network_namespace, wait_for, wait_gone


@pytest.fixture
def sleeper():
    """A process that does nothing."""
    child = subprocess.Popen(["sleep", "60"])
    yield child
    child.kill()
    child.wait()


def test_running_process_is_alive(sleeper):
    assert ProcessId.of(sleeper.pid).alive()


def test_recycled_pid_is_another_process(sleeper):
    earlier = ProcessId(sleeper.pid, ProcessId.of(sleeper.pid).started - 1)
    assert not earlier.alive()
    assert not earlier.send(signal.SIGKILL)
    assert ProcessId.of(sleeper.pid).alive()


def test_killed_child_is_gone_although_nobody_waited_for_it(sleeper):
    process = ProcessId.of(sleeper.pid)
    assert process.send(signal.SIGKILL)
    assert wait_gone([process], 5) == []
    assert not process.send(signal.SIGKILL)


def test_processes_of_a_network_namespace_are_found(sleeper):
    found = in_network_namespace(Path(f"/proc/{os.getpid()}/ns/net"))
    assert ProcessId.of(sleeper.pid) in found


def test_namespace_that_is_gone_has_no_processes(tmp_path):
    assert in_network_namespace(tmp_path / "gone") == []


def test_deadline_names_what_was_waited_for():
    with pytest.raises(DeadlineError, match=r"the moon not within 0 s; look up"):
        wait_for("the moon", lambda: False, 0, "look up")
