# SPDX-License-Identifier: Apache-2.0
"""The snapshot on disk: whole or not at all, and never a reason not to start."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cloudlb.agents.store import SnapshotStore
from tests.views import member, snapshot, tcp_monitor, view

KEPT = snapshot(view(member(1), member(2, removing=True), monitor=tcp_monitor()), generation=9)


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path / "state", lambda: 1234.5)


@pytest.fixture
def file(store: SnapshotStore, tmp_path: Path) -> Path:
    """The file that a snapshot was saved to."""
    store.save(KEPT, 1234.5)
    (path,) = (tmp_path / "state").iterdir()
    return path


def test_what_was_saved_is_loaded_with_its_time(store: SnapshotStore) -> None:
    store.save(KEPT, 1234.5)
    assert store.load() == (KEPT, 1234.5)


def test_removals_are_older_by_the_time_since_the_snapshot_was_made(tmp_path: Path) -> None:
    now = 1000.0
    store = SnapshotStore(tmp_path, lambda: now)
    removed = member(2, removing=True, removed_for=5)
    store.save(snapshot(view(member(1), removed)), now)
    now += 20
    store.confirm(now)
    now += 10
    loaded = store.load()
    assert loaded is not None
    assert loaded[1] == 1020.0, "when it was last known to be current"
    assert [m.removed_for for m in loaded[0].pools[0].members] == [0, 35]


def test_a_clock_that_was_set_back_makes_no_removal_younger(tmp_path: Path) -> None:
    removed = snapshot(view(member(2, removing=True, removed_for=5)))
    SnapshotStore(tmp_path).save(removed, 1000.0)
    assert SnapshotStore(tmp_path, lambda: 10.0).load() == (removed, 1000.0)


def test_the_file_of_a_release_that_did_not_know_when_it_was_made_is_read(
    store: SnapshotStore, file: Path
) -> None:
    content = json.loads(file.read_text())
    del content["made_at"]
    file.write_text(json.dumps(content))
    os.utime(file, (1200.0, 1200.0))
    loaded = store.load()
    assert loaded is not None
    assert [m.removed_for for m in loaded[0].pools[0].members] == [0, 34.5]


def test_without_a_file_there_is_nothing(
    store: SnapshotStore, caplog: pytest.LogCaptureFixture
) -> None:
    assert store.load() is None
    assert caplog.records == []


def test_the_newest_replaces_what_was_there(store: SnapshotStore) -> None:
    store.save(KEPT, 1.0)
    store.save(snapshot(generation=10), 2.0)
    assert store.load() == (snapshot(generation=10), 2.0)


def test_a_crash_while_saving_leaves_the_old_one(
    store: SnapshotStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(_content: object, draft: Any) -> None:
        draft.write('{"format": 1, "saved_')
        raise OSError("No space left on device")

    monkeypatch.setattr("cloudlb.agents.store.json.dump", crash)
    with pytest.raises(OSError, match="No space"):
        store.save(snapshot(generation=10), 2.0)
    assert store.load() == (KEPT, 1234.5)


def test_the_draft_of_an_earlier_crash_is_no_obstacle(store: SnapshotStore, file: Path) -> None:
    file.with_suffix(".tmp").write_text("{")
    assert store.load() == (KEPT, 1234.5)
    store.save(snapshot(generation=10), 2.0)
    assert store.load() == (snapshot(generation=10), 2.0)


def _change(file: Path, **parts: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | parts))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'"text"', b"{}", b"\xff\xfe\x00", b'{"format": 1}'],
    ids=repr,
)
def test_garbage_is_ignored_with_one_warning(
    store: SnapshotStore, file: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_bytes(content)
    assert store.load() is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize(
    "change",
    [
        {"format": 0},
        {"format": 2},
        {"made_at": "long ago"},
        {"snapshot": None},
        {"snapshot": {"host": "d1", "generation": 1, "pools": [{"pool": {"id": 5}}]}},
        {"snapshot": {"host": "d1", "generation": 1, "pools": 3}},
    ],
    ids=str,
)
def test_another_format_is_ignored(store: SnapshotStore, file: Path, change: Any) -> None:
    _change(file, **change)
    assert store.load() is None
