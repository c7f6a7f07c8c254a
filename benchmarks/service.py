# SPDX-License-Identifier: Apache-2.0
"""What a client gets through every director, and what it costs: the same requests and uploads.

    python -m benchmarks.service [--rounds N] [--requests N] [--octets N] [NAME …]

Prints samples as JSON: by director a list with one `Sample` for each round. Time is in ns; in a
guest that counts instructions, these are instructions. Links carry packets as wires do: none is
larger than 1500 octets. Of itself it changes a network namespace and ``/run``.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial

from benchmarks import rig as rigs
from benchmarks import serving
from benchmarks.directors import CONTENDERS, MODES, balancing, cloudlb_programs
from benchmarks.rig import VIP, Rig
from benchmarks.spent import spent

NAMES = (
    "direct",
    "nft dnat",
    "haproxy",
    "ipvs nat",
    "ipvs dr",
    "cloudlb dr",
    "cloudlb nat",
    "cloudlb full nat",
    "cloudlb tun",
    "ipvs tun",
)
"""LVS' tunnel last: it changes the members."""
AT_ONCE = 16
SEGMENT = 1448
"""Octets of data in a full packet."""


@dataclass(frozen=True)
class Sample:
    """A round: how long each request took on one connection and with a new connection each, how
    many ns a connection took with several at once and an octet of an upload, and CPU ns for a
    connection and for an octet.
    """

    kept: list[int]
    new: list[int]
    per_connection: float
    per_octet: float
    cpu_per_connection: float
    cpu_per_octet: float


def sample(rig: Rig, requests: int, octets: int) -> Sample:
    """Through the director that is there; an error when anything is not answered."""
    address = str(VIP[4])
    kept = rig.client.do(partial(serving.on_one_connection, address, requests))
    new = rig.client.do(partial(serving.on_new_connections, address, requests))
    began = spent()
    many = rig.client.do(partial(serving.many_connections, address, requests, AT_ONCE))
    between = spent()
    uploaded = rig.client.do(partial(serving.upload, address, octets))
    ended = spent()
    return Sample(
        kept,
        new,
        many / requests,
        uploaded / octets,
        (between - began) / requests,
        (ended - between) / octets,
    )


def measure(
    rounds: int, requests: int, octets: int, names: Sequence[str]
) -> dict[str, list[Sample]]:
    """All directors in every round; what warms up is not kept."""
    rig = rigs.build()
    for machine in (rig.client, rig.director, *rig.members):
        machine.ip("link set eth0 gso_max_segs 1\n")
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    with serving.served(rig.members), cloudlb_programs(rig) as programs:
        for _ in range(rounds):
            for name in names:
                with (
                    balancing(programs, MODES[name], rig, 4)
                    if name in MODES
                    else CONTENDERS[name].way(rig, 4)
                ):
                    rig.client.ip("neigh flush dev eth0\n")
                    sample(rig, max(1, requests // 8), 1 << 18)
                    samples[name].append(sample(rig, requests, octets))
    return samples


def main() -> None:
    """Print the samples."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--requests", type=int, default=128)
    parser.add_argument("--octets", type=int, default=1 << 22)
    parser.add_argument("names", nargs="*", default=NAMES)
    options = parser.parse_args()
    found = measure(options.rounds, options.requests, options.octets, options.names)
    print(json.dumps({name: [asdict(each) for each in of] for name, of in found.items()}))


if __name__ == "__main__":
    main()
