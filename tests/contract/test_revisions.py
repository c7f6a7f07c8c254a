# SPDX-License-Identifier: Apache-2.0
"""The database's revisions: one line, each with its phase, ending at the models."""

from alembic.script import ScriptDirectory

from cloudlb.db import schema


def _revisions() -> list[object]:
    return list(ScriptDirectory(str(schema._HERE)).walk_revisions())


def test_revisions_are_one_line() -> None:
    script = ScriptDirectory(str(schema._HERE))
    assert len(script.get_heads()) == 1
    assert len(script.get_bases()) == 1
    assert all(not revision.is_merge_point for revision in script.walk_revisions())


def test_each_revision_says_its_phase() -> None:
    phases = {revision.module.phase for revision in _revisions()}  # type: ignore[attr-defined]
    assert phases <= {"expand", "contract"}
