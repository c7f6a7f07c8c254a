# SPDX-License-Identifier: Apache-2.0
"""Asks on eth0, twenty times a second, which Ethernet address an address has.

usage: questions.py ADDRESS; ends when its standard input ends and prints how often it has asked.
"""

import ipaddress
import select
import sys

from scapy.arch import get_if_hwaddr
from scapy.config import conf
from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet
from scapy.utils6 import in6_getnsma, in6_getnsmac

PAUSE = 0.05


def question(address: str, mac: str) -> Packet:
    """An ARP request, or a neighbour solicitation to the address' multicast group."""
    asked = ipaddress.ip_address(address)
    if asked.version == 4:
        return Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, hwsrc=mac, pdst=address)
    group = in6_getnsma(asked.packed)
    return (
        Ether(src=mac, dst=in6_getnsmac(group))
        / IPv6(dst=str(ipaddress.IPv6Address(group)), hlim=255)
        / ICMPv6ND_NS(tgt=address)
        / ICMPv6NDOptSrcLLAddr(lladdr=mac)
    )


def main() -> None:
    frame = bytes(question(sys.argv[1], get_if_hwaddr("eth0")))
    link = conf.L2socket(iface="eth0")
    sys.stdout.write("asking\n")
    sys.stdout.flush()
    asked = 0
    while not select.select([sys.stdin], [], [], PAUSE)[0]:
        link.send(frame)
        asked += 1
    sys.stdout.write(str(asked))


if __name__ == "__main__":
    main()
