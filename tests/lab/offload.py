# SPDX-License-Identifier: Apache-2.0
"""Turns what devices do for the network stack on or off, by ioctl (linux/ethtool.h).

usage: offload.py on|off INTERFACE...; off: the stack computes all checksums itself, and passes
no packet that is longer than the MTU.
"""

import array
import fcntl
import socket
import struct
import sys

_SIOCETHTOOL = 0x8946
_SETTERS = {"tx": 0x17, "tso": 0x1F, "gso": 0x24, "gro": 0x2C}


def main() -> None:
    state, *interfaces = sys.argv[1:]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        for interface in interfaces:
            for command in _SETTERS.values():
                value = array.array("B", struct.pack("=II", command, state == "on"))
                request = struct.pack("=16sQ16x", interface.encode(), value.buffer_info()[0])
                fcntl.ioctl(channel, _SIOCETHTOOL, request)


if __name__ == "__main__":
    main()
