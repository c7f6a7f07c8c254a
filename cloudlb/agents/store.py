# SPDX-License-Identifier: Apache-2.0
"""The last snapshot on disk, so that a host comes up without the control plane."""

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from cloudlb.model import plain
from cloudlb.model.snapshot import Snapshot, aged

LOG = logging.getLogger(__name__)
_FORMAT = 1


class SnapshotStore:
    """One file, replaced as a whole; a reader sees the old snapshot or the new one. It holds
    keys, so nobody else may read it.

    The file's time of modification is when its snapshot was last known to be current, and
    ``made_at`` in it when that was made. ``clock`` gives seconds since the epoch.
    """

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = directory / "snapshot.json"
        self._clock = clock

    def save(self, snapshot: Snapshot, now: float) -> None:
        """Keep a snapshot that was made ``now`` (seconds since the epoch)."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".tmp")
        content = {"format": _FORMAT, "made_at": now, "snapshot": plain.encode(snapshot)}
        draft.unlink(missing_ok=True)
        with open(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.utime(draft, (now, now))
        draft.replace(self._path)

    def confirm(self, now: float) -> None:
        """The snapshot that was saved last is still current at ``now``."""
        os.utime(self._path, (now, now))

    def load(self) -> tuple[Snapshot, float] | None:
        """The snapshot and when it was last current; None when there is none to be read.

        Its removals are older by the time that the snapshot has been here.
        """
        try:
            known_at = self._path.stat().st_mtime
            content = json.loads(self._path.read_text())
            if content["format"] != _FORMAT:
                raise ValueError(f"format {content['format']}")
            passed = max(0.0, self._clock() - content.get("made_at", known_at))
            return aged(plain.decode(Snapshot, content["snapshot"]), passed), known_at
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            LOG.warning("snapshot=%s unreadable, ignored: %s", self._path, error)
            return None
