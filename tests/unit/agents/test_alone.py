# SPDX-License-Identifier: Apache-2.0
"""One process at a time holds a host, and its end lets go."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cloudlb.agents.alone import hold
from cloudlb.model.errors import CloudlbError, Conflict

HOLDER = """import sys
from pathlib import Path
from cloudlb.agents.alone import hold
hold(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_host_is_held_until_the_holder_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "state")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Conflict, match=f"holds {tmp_path / 'state'}\\); stop it first"):
            hold(tmp_path / "state")
        holder.kill()
    os.close(hold(tmp_path / "state"))


def test_it_is_free_when_the_descriptor_is_closed(tmp_path: Path) -> None:
    os.close(hold(tmp_path))
    os.close(hold(tmp_path))


def test_holding_writes_nothing(tmp_path: Path) -> None:
    os.close(hold(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CloudlbError, match=r"state_dir cannot be used: .*file"):
        hold(tmp_path / "file")
