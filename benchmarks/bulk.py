# SPDX-License-Identifier: Apache-2.0
"""Uploads past a director, beside those past a machine in its place that only forwards.

    python -m benchmarks.bulk [--rounds N] [--octets N]

Prints samples as JSON: by way a list with ns and CPU ns for each octet, one for each round.
Devices segment and compute checksums as far as they can. To be run in namespaces of its own
(`benchmarks.sandbox`).
"""

import argparse
import json
from functools import partial

from benchmarks import rig as rigs
from benchmarks import serving
from benchmarks.directors import CONTENDERS, plain_hop
from benchmarks.rig import VIP
from benchmarks.spent import spent

PLAIN = "plain hop"
WAYS = {
    PLAIN: plain_hop,
    **{name: CONTENDERS[name].way for name in ("cloudlb dr", "cloudlb tun")},
}
_WARM_UP = 1 << 22


def measure(rounds: int, octets: int) -> dict[str, list[tuple[float, float]]]:
    """All ways in each round, over IPv4."""
    rig, address = rigs.build(), str(VIP[4])
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    with serving.served(rig.members):
        for _ in range(rounds):
            for name, way in WAYS.items():
                with way(rig, 4):
                    rig.client.ip("neigh flush dev eth0\n")
                    rig.client.do(partial(serving.upload, address, _WARM_UP))
                    began = spent()
                    lasted = rig.client.do(partial(serving.upload, address, octets))
                    samples[name].append((lasted / octets, (spent() - began) / octets))
    return samples


def main() -> None:
    """Print the samples."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--octets", type=int, default=1 << 30)
    options = parser.parse_args()
    print(json.dumps(measure(options.rounds, options.octets)))


if __name__ == "__main__":
    main()
