# SPDX-License-Identifier: Apache-2.0
"""More hosts that direct for each other carry more, on links that all have the same rate."""

import itertools
import os

import pytest

from benchmarks import sandbox


@pytest.mark.requirement("D12")
def test_each_host_adds_to_what_is_carried_and_four_carry_more_than_one_director() -> None:
    """Links of 10 Mbit/s are what limits; each bound has half of a link's share left."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    carried = sandbox.output("growth", "--seconds", "1.5", "mac")
    answers = [carried[f"dpr mac {hosts} down"] for hosts in (1, 2, 3, 4)]
    more = [after - before for before, after in itertools.pairwise(answers)]
    assert min(more) > 0.3, answers
    assert answers[3] > 2.5 * carried["director nat down"]
    assert answers[3] > 2.5 * answers[0]
    uploads = [carried[f"dpr mac {hosts} up"] for hosts in (1, 4)]
    assert uploads[1] > 1.6 * max(uploads[0], carried["director dr up"]), carried
