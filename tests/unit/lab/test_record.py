# SPDX-License-Identifier: Apache-2.0
"""The record of a lab survives its author."""

import pytest

from cloudlb.lab.process import ProcessId
from cloudlb.lab.record import Record


@pytest.fixture
def path(tmp_path):
    """Where the record is kept."""
    return tmp_path / "record.json"


def test_everything_noted_is_read_back(path):
    record = Record(path, cache="/cache")
    record.add_namespace("x-client")
    record.set_process("client/holder", ProcessId(7, 70))
    record.set_complete()
    again = Record.load(path)
    assert again == record


def test_absent_record_is_empty(path):
    assert Record.load(path) == Record(path)


def test_torn_record_is_empty(path):
    path.write_text('{"complete": tr')
    assert not Record.load(path).complete


def test_restarted_process_replaces_the_earlier_one(path):
    record = Record(path)
    record.set_process("director/agent", ProcessId(7, 70))
    record.set_process("director/agent", ProcessId(8, 80))
    assert Record.load(path).processes == {"director/agent": ProcessId(8, 80)}
