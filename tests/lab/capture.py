# SPDX-License-Identifier: Apache-2.0
"""Prints the frames on interfaces in which an address stands, as they are on the wire.

usage: capture.py ADDRESS INTERFACE...; ends when its standard input has ended and none of them
comes any more. Incoming frames are seen before the interface's filters, outgoing ones after them.
"""

import ipaddress
import json
import select
import socket
import sys
import time

_LONGEST = 65536
_SILENCE = 0.5


def main() -> None:
    address = ipaddress.ip_address(sys.argv[1]).packed
    listeners = []
    for interface in sys.argv[2:]:
        listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        listener.bind((interface, 0))
        listeners.append(listener)
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    frames: list[str] = []
    waits, heard_at = True, time.monotonic()
    while waits or time.monotonic() - heard_at < _SILENCE:
        watched = [*listeners, sys.stdin] if waits else listeners
        ready, _, _ = select.select(watched, [], [], None if waits else _SILENCE)
        caught = [listener.recv(_LONGEST) for listener in listeners if listener in ready]
        found = [frame.hex() for frame in caught if address in frame]
        if found or sys.stdin in ready:
            heard_at = time.monotonic()
        frames += found
        waits = waits and sys.stdin not in ready
    sys.stdout.write(json.dumps(frames))


if __name__ == "__main__":
    main()
