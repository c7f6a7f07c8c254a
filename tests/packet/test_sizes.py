# SPDX-License-Identifier: Apache-2.0
"""Tables have the sizes that an operator gives them."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudlb.model.dataplane import TableSizes
from cloudlb.net.bpf.programs import Programs, pinned

pytestmark = pytest.mark.requirement("L11")
PINS = Path("/sys/fs/bpf/sizes")


@pytest.fixture
def pins(namespace: None) -> Iterator[Path]:
    """Where programs can be pinned."""
    yield PINS
    shutil.rmtree(PINS, ignore_errors=True)


def sizes_of(programs: Programs) -> tuple[int, ...]:
    """What the kernel says of the tables."""
    maps = programs.maps
    tables = (maps.flows, maps.sessions, maps.clients, maps.fragmented, maps.members)
    return tuple(table.max_entries for table in tables)


def test_each_table_is_as_large_as_it_was_asked_for(pins: Path, objects: Path) -> None:
    programs = Programs(
        pins, objects, TableSizes(flows=2048, clients=4096, fragments=1024, members=70000)
    )
    assert sizes_of(programs) == (2048, 2048, 4096, 1024, 70000)
    programs.close()


def test_another_size_is_another_version_and_takes_no_maps_over(pins: Path, objects: Path) -> None:
    first = Programs(pins, objects, TableSizes(2048, 2048, 1024))
    second = Programs(pins, objects, TableSizes(2048, 4096, 1024))
    assert first.version != second.version
    assert sizes_of(second) == (2048, 2048, 4096, 1024, 65536)
    assert len(pinned(pins)) == 4
    second.remove_others()
    assert len(pinned(pins)) == 2
    first.close()
    second.close()
