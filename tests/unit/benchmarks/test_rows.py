# SPDX-License-Identifier: Apache-2.0
"""What rows make of samples: ratios of what alternated, and whether a target was met."""

from benchmarks import d12_growth, l20_service, p04_distributed, p07_bulk
from benchmarks.__main__ import row_modules
from benchmarks.result import at_least
from benchmarks.service import Sample


def test_rows_of_speed_come_before_those_of_other_requirements() -> None:
    rows = list(row_modules())
    assert rows[:2] == ["P1", "P4"]
    assert rows[-2:] == ["D12", "L20"]


def test_throughput_is_compared_within_each_round() -> None:
    samples = {
        "cloudlb dr": [
            ((1.0, 2.0), (1.0, 3.0)),
            ((4.0, 2.0), (5.0, 3.0)),
            ((2.0, 2.0), (4.0, 2.0)),
        ],
        "cloudlb tun": [((1.0, 2.0), (0.5, 1.0))],
    }
    found = p07_bulk.lines(samples)
    assert [(line.measured.split(";")[0], line.verdict) for line in found] == [
        ("0.80 (0.50–1.00)", "**missed by 20%**"),
        ("1.50 (1.00–1.50)", "–"),
        ("2.00 (2.00–2.00)", "met"),
        ("0.50 (0.50–0.50)", "–"),
    ]


def test_a_figure_that_should_be_large_tells_how_much_it_lacks() -> None:
    assert at_least(1.0, 1.0) == "met"
    assert at_least(0.9, 1.0) == "**missed by 10%**"


def test_growth_means_that_every_host_adds() -> None:
    assert d12_growth.grows([1.0, 1.5, 2.0], 1.2)
    assert not d12_growth.grows([1.0, 2.0, 2.0], 1.05)


def test_a_single_director_stands_beside_the_hosts() -> None:
    samples = {f"director {mode} {way}": [1.0] for mode in ("nat", "dr") for way in ("up", "down")}
    for way, count, kind in (
        (way, count, kind)
        for way in ("mac", "ipip")
        for count in (1, 2, 3, 4)
        for kind in ("up", "down")
    ):
        samples[f"dpr {way} {count} {kind}"] = [0.1, float(count), 9.0]
    line = d12_growth.lines(samples)[0]
    assert line.peers == "one director and 4 members, NAT 1.00, DR 1.00"
    assert (line.measured, line.verdict) == ("1.00, 2.00, 3.00, 4.00", "met")


def test_costs_are_flat_when_none_is_far_from_their_mean() -> None:
    assert p04_distributed.deviation([100.0, 100.0, 100.0]) == 0
    assert round(p04_distributed.deviation([90.0, 100.0, 110.0]), 3) == 10


def sample(factor: int) -> dict[str, object]:
    """Times and costs that are all so many times as large."""
    times = [factor * each for each in range(1, 101)]
    return vars(Sample(times, times, factor, factor, factor, factor))


def test_every_director_has_its_share_of_nftables_figure_in_the_same_round() -> None:
    samples = {
        "nft dnat": [sample(1), sample(2), sample(4)],
        "haproxy": [sample(2), sample(6), sample(8)],
        "cloudlb dr": [sample(1), sample(1), sample(1)],
    }
    throughput, rate, kept, new, packet, connection = l20_service.lines(samples, "time")
    assert (throughput.peers, throughput.measured) == ("nft dnat 1.00, haproxy 0.50", "dr 2.00")
    assert rate.measured == throughput.measured
    assert (kept.peers, kept.measured) == ("nft dnat 1.00/1.00, haproxy 2.00/2.00", "dr 0.50/0.50")
    assert new.measured == kept.measured
    assert packet.peers == connection.peers == "nft dnat 1.00, haproxy 2.00"
    assert packet.measured == connection.measured == "dr 0.50"
