# SPDX-License-Identifier: Apache-2.0
"""At most one process works on a host's kernel: its agent, or what tears down after it."""

import fcntl
import os
from pathlib import Path

from cloudlb.model.errors import CloudlbError, Conflict


def hold(state_dir: Path) -> int:
    """Be that process until the returned descriptor is closed, or the process has ended.

    The directory itself is locked, which writes nothing: a full disk stops no agent, and root's
    lock leaves nothing that the agent's user could not open. Raises Conflict when another process
    holds it.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        directory = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise CloudlbError(f"[agent] state_dir cannot be used: {error}.") from error
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(directory)
        raise Conflict(
            f"An agent works on this host (it holds {state_dir}); stop it first, for example "
            "with systemctl stop cloudlb-agent."
        ) from error
    return directory
