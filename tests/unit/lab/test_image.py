# SPDX-License-Identifier: Apache-2.0
"""The cache of kernels and saved guests."""

import pytest

from cloudlb.lab.image import Cache


@pytest.fixture
def filled_cache(tmp_path):
    """A cache with a file and a directory of the lab's."""
    cache = Cache(tmp_path / "cache")
    (cache.path / "kernel" / "modules").mkdir(parents=True)
    (cache.path / "initramfs-0123").touch()
    return cache


def test_purge_removes_the_cache(filled_cache):
    filled_cache.purge()
    assert not filled_cache.path.exists()


def test_purge_leaves_files_that_are_not_the_labs(filled_cache):
    (filled_cache.path / "thesis").touch()
    filled_cache.purge()
    assert [path.name for path in filled_cache.path.iterdir()] == ["thesis"]


def test_purge_of_an_absent_cache_does_nothing(tmp_path):
    Cache(tmp_path / "absent").purge()
