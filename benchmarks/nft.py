# SPDX-License-Identifier: Apache-2.0
"""The peers of a pool: nftables on the director's host, with and without a memory."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from cloudlb.lab.lab import Lab
from cloudlb.lab.topology import UPLINK

_HASH = "jhash ip saddr . tcp sport mod"


@dataclass(frozen=True)
class Peer:
    """A way to balance by nftables: the tables, and the rule for a list of servers."""

    name: str
    tables: str
    chain: str
    rule: str
    targets: str
    """Field of a guest's spec that the rule maps to."""

    def script(self, lab: Lab, address: IPv4Address, turns: Sequence[str]) -> str:
        """What makes the rule agree with the servers, in one transaction."""
        values = [str(getattr(lab.guest(name).spec, self.targets)) for name in turns]
        chosen = f"{_HASH} {len(values)} map {{ " + ", ".join(
            f"{number} : {value}" for number, value in enumerate(values)
        )
        rule = self.rule.format(
            address=address, chosen=f"{chosen} }}", mac=lab.host("director").spec.lan_mac
        )
        return f"flush chain {self.chain}\nadd rule {self.chain} {rule}\n"


DSR = Peer(
    "nftables jhash mod n, direct return",
    f"""table netdev bench {{
    chain steer {{ type filter hook ingress device {UPLINK} priority 0; }}
}}
""",
    "netdev bench steer",
    f"ip daddr {{address}} ether saddr set {{mac}} ether daddr set {{chosen}} fwd to {UPLINK}",
    "mac",
)
DNAT = Peer(
    "nftables DNAT with conntrack",
    """table ip bench {
    chain steer { type nat hook prerouting priority -100; }
    chain back { type nat hook postrouting priority 100; ct status dnat masquerade; }
}
""",
    "ip bench steer",
    "ip daddr {address} dnat to {chosen}",
    "ipv4",
)


@contextlib.contextmanager
def balancing(lab: Lab, peer: Peer, address: IPv4Address) -> Iterator[None]:
    """The director's host forwards for the peer, and the client knows it by the address."""
    director, client = lab.host("director"), lab.host("client")
    director.run(["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward; "
                  "echo 0 >/proc/sys/net/ipv4/conf/all/send_redirects; "
                  f"echo 0 >/proc/sys/net/ipv4/conf/{UPLINK}/send_redirects"])  # fmt: skip
    director.run(["nft", "-f", "-"], input=peer.tables)
    neighbour = [str(address), "lladdr", director.spec.lan_mac, "dev", UPLINK]
    client.run(["ip", "neigh", "replace", *neighbour, "nud", "permanent"])
    yield
    client.run(["ip", "neigh", "del", str(address), "dev", UPLINK])
    director.run(["nft", "flush", "ruleset"])
    director.run(["sh", "-c", "echo 0 >/proc/sys/net/ipv4/ip_forward"])
