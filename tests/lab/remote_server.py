# SPDX-License-Identifier: Apache-2.0
"""A server on no host with an agent: it answers HTTP on port 80, and unpacks tunnels.

Its only argument is the name of a tun device for what it unpacks; without one it unpacks nothing.
Prints "ready" when it listens, and ends with its standard input.
"""

import contextlib
import fcntl
import ipaddress
import json
import socket
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME = "remote"
_TUNSETIFF, _TUN = 0x400454CA, 0x1101  # a queue of a tun device, packets alone (linux/if_tun.h)
_TCP_SAVE_SYN, _TCP_SAVED_SYN = 27, 28  # linux/tcp.h
_NO_OPERATION, _CLIENT = 1, 254  # kinds of TCP options
_INSIDE = 4, 41  # IPv4 and IPv6 in an IP packet (RFC 2003, RFC 4213)


class Answer(BaseHTTPRequestHandler):
    """Says who answers, and whom it takes the client for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        client = self.client_address[0].removeprefix("::ffff:")
        body = json.dumps({"server": NAME, "client": client, "told": self._told()}).encode()
        self.send_response(200)
        self.send_header("X-Server", NAME)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _told(self) -> str:
        """The client's address and port by an option of its SYN; empty without one."""
        header = self.connection.getsockopt(socket.IPPROTO_TCP, _TCP_SAVED_SYN, 200)
        rest = header[20 if header[0] >> 4 == 4 else 40 :][20:]
        while rest and rest[0]:
            length = 1 if rest[0] == _NO_OPERATION else rest[1]
            if rest[0] == _CLIENT:
                port = int.from_bytes(rest[2:4])
                return f"{ipaddress.ip_address(rest[4:length])} {port}"
            rest = rest[length:]
        return ""

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """For both families."""

    address_family = socket.AF_INET6
    daemon_threads = True
    allow_reuse_address = True


def unpack(device: str, protocol: int) -> None:
    """Take packets out of IPv4 packets, for ever."""
    out = open("/dev/net/tun", "r+b", buffering=0)  # noqa: SIM115
    flags = struct.pack("16sH", device.encode(), _TUN)
    fcntl.ioctl(out, _TUNSETIFF, flags)
    packets = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)
    while True:
        packet = packets.recv(65535)
        with contextlib.suppress(OSError):
            out.write(packet[(packet[0] & 15) * 4 :])


def main() -> None:
    for device in sys.argv[1:]:
        for protocol in _INSIDE:
            threading.Thread(target=unpack, args=(device, protocol), daemon=True).start()
    server = Server(("::", 80), Answer)
    server.socket.setsockopt(socket.IPPROTO_TCP, _TCP_SAVE_SYN, 1)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
