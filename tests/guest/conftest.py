# SPDX-License-Identifier: Apache-2.0
"""One guest per run with the kernel of Debian 12, ended and removed at the end of the run."""

import os
import shutil
from collections.abc import Iterator

import pytest

from cloudlb.lab import accelerator
from cloudlb.lab.errors import MissingProgramError
from cloudlb.lab.image import Cache
from cloudlb.lab.lab import check_machine
from tests.guest.machine import FASTEST, Machine, booted


@pytest.fixture(scope="session")
def guest(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """A guest; the kernel is kept from run to run where the lab keeps its own."""
    if os.geteuid() != 0:
        pytest.skip("sharing this machine's programs with a guest needs root")
    try:
        check_machine(with_services=False)
    except MissingProgramError as error:
        pytest.skip(str(error))
    cache = Cache(pytestconfig.rootpath / "build" / "lab")
    package = cache.kernel_package()
    chosen = accelerator.choose(cache, cache.image())
    state = tmp_path_factory.mktemp("guest")
    try:
        with booted(package, pytestconfig.rootpath, FASTEST[chosen], state) as machine:
            yield machine
    finally:
        shutil.rmtree(state)
