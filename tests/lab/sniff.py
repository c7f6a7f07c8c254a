# SPDX-License-Identifier: Apache-2.0
"""Listens on an interface for whoever binds an address to its Ethernet address.

usage: sniff.py INTERFACE ADDRESS; ends when its standard input ends and prints the claims, and how
often each was made.
A claim is an ARP packet with the address as sender, a neighbour advertisement for it, or any
neighbour discovery message sent from it (RFC 826, RFC 4861).
"""

import ipaddress
import json
import select
import socket
import sys
from collections import Counter


def claim(frame: bytes, address: bytes) -> str:
    """What the frame says of the address; empty when nothing."""
    ethertype = frame[12:14]
    if ethertype == b"\x08\x06" and frame[28:32] == address:
        return "arp-request" if frame[21] == 1 else "arp-reply"
    if ethertype == b"\x86\xdd" and frame[20] == 58 and 133 <= frame[54] <= 137:
        if frame[54] == 136 and frame[62:78] == address:
            return "advertisement"
        if frame[22:38] == address:
            return f"nd-{frame[54]}"
    return ""


def main() -> None:
    interface, text = sys.argv[1:]
    address = ipaddress.ip_address(text).packed
    listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    listener.bind((interface, 0))
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    claims: Counter[tuple[str, str]] = Counter()
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if listener in ready:
            frame = listener.recv(2048)
            if said := claim(frame, address):
                claims[frame[6:12].hex(":"), said] += 1
        elif sys.stdin in ready:
            break
    sys.stdout.write(json.dumps(sorted(claims.items())))


if __name__ == "__main__":
    main()
