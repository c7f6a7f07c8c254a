# SPDX-License-Identifier: Apache-2.0
"""Programs in a guest whose clocks count instructions, which no other work changes.

QEMU advances the guest's time by a nanosecond for each instruction (``-icount shift=0``), so that
whatever measures time there counts instructions. The guest runs Debian 12's kernel.
"""

import sys
import tempfile
from pathlib import Path

from benchmarks.context import Context
from cloudlb.lab.image import Cache
from tests.guest.machine import COUNTING, MODULES, booted

ROOT = Path(__file__).parents[1]
SECONDS = 1200
WHERE = "; instructions in a guest with Linux 6.1"
PEERS = (
    "net/netfilter/nfnetlink",
    "net/netfilter/nf_tables",
    "net/netfilter/nf_nat",
    "net/netfilter/nft_chain_nat",
    "net/netfilter/nft_nat",
    "net/netfilter/nft_ct",
    "net/netfilter/nft_numgen",
    "net/netfilter/nft_hash",
    "net/netfilter/nf_dup_netdev",
    "net/netfilter/nft_fwd_netdev",
    "net/ipv4/tunnel4",
    "net/ipv4/ip_tunnel",
    "net/ipv4/ipip",
)
"""Modules of other directors than cloudlb, after those of the tests."""


def output(context: Context, module: str, *arguments: str) -> str:
    """What a module of this package prints there; it may write below /tmp."""
    with (
        tempfile.TemporaryDirectory() as state,
        booted(
            Cache(context.cache).kernel_package(), ROOT, COUNTING, Path(state), MODULES + PEERS
        ) as machine,
    ):
        command = " ".join((sys.executable, "-m", f"benchmarks.{module}", *arguments))
        outcome = machine.run(command, SECONDS)
    if outcome.status:
        raise RuntimeError(f"{command}: {outcome}")
    return outcome.output
