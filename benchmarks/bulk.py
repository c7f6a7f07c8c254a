# SPDX-License-Identifier: Apache-2.0
"""Uploads past a director, beside those past a machine in its place that only forwards.

    python -m benchmarks.bulk [--rounds N] [--octets N]

Prints samples as JSON: by mode a list of pairs, a plain hop's and the director's, each with ns and
CPU ns for an octet. Devices segment and compute checksums as far as they can. To be run in
namespaces of its own (`benchmarks.sandbox`).
"""

import argparse
import json
from functools import partial

from benchmarks import rig as rigs
from benchmarks import serving
from benchmarks.directors import Programs, balancing, cloudlb_programs, plain_hop
from benchmarks.rig import VIP, Rig
from benchmarks.spent import spent
from cloudlb.model.dataplane import Mode

PLAIN = "plain hop"
MODES = {"cloudlb dr": Mode.DR, "cloudlb tun": Mode.TUN}
_WARM_UP = 1 << 22

Pair = tuple[float, float]
"""ns and CPU ns for an octet."""


def measure(rounds: int, octets: int) -> dict[str, list[tuple[Pair, Pair]]]:
    """By mode, pairs of a plain hop's and of the director's: its programs come and go."""
    rig = rigs.build()
    samples: dict[str, list[tuple[Pair, Pair]]] = {}
    with serving.served(rig.members), plain_hop(rig, 4):
        for name, mode in MODES.items():
            with cloudlb_programs(rig) as programs, balancing(programs, mode, rig, 4):
                samples[name] = [_pair(rig, programs, octets) for _ in range(rounds)]
    return samples


def _pair(rig: Rig, programs: tuple[Programs, ...], octets: int) -> tuple[Pair, Pair]:
    for each in programs:
        each.take_off()
    plain = _upload(rig, octets)
    for each in programs:
        each.put_on()
    return plain, _upload(rig, octets)


def _upload(rig: Rig, octets: int) -> Pair:
    address = str(VIP[4])
    rig.client.do(partial(serving.upload, address, _WARM_UP))
    began = spent()
    lasted = rig.client.do(partial(serving.upload, address, octets))
    return lasted / octets, (spent() - began) / octets


def main() -> None:
    """Print the samples."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--octets", type=int, default=1 << 29)
    options = parser.parse_args()
    print(json.dumps(measure(options.rounds, options.octets)))


if __name__ == "__main__":
    main()
