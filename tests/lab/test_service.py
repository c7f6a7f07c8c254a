# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks measure through directors: requests, connections, uploads, CPU time."""

import os

import pytest

from benchmarks import l20_service, sandbox, service

REQUESTS = 8


@pytest.mark.requirement("L20")
def test_the_same_requests_are_measured_through_all_directors_of_this_kernel() -> None:
    """All are answered, or the run fails; each system yields each kind of figure."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    arguments = ("--requests", str(REQUESTS), "--octets", str(1 << 20))
    measured = sandbox.output("service", *arguments, *l20_service.HERE)
    assert tuple(measured) == l20_service.HERE
    assert {"direct", "nft dnat", "haproxy", "cloudlb dr", "cloudlb tun"} < set(measured)
    for (sample,) in measured.values():
        figures = service.Sample(**sample)
        assert len(figures.kept) == len(figures.new) == REQUESTS
        assert min(*figures.kept, *figures.new) > 0
        assert min(figures.per_octet, figures.per_connection) > 0
        assert min(figures.cpu_per_octet, figures.cpu_per_connection) > 0
    assert len(l20_service.lines(measured, "time")) == 6
