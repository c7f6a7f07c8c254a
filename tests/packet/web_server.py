# SPDX-License-Identifier: Apache-2.0
"""A member with a kernel of its own: answers HTTP and HTTPS as its standard input says.

    web_server.py INTERFACE CERTIFICATE PEER=MAC… ADDRESS…

Each line that comes in is the mood from then on. A line goes out when the mood holds, and one for
each request, with its bytes as Python writes them.
"""

import contextlib
import select
import socket
import ssl
import subprocess
import sys
import threading
import time


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)


class Server:
    """Listens on ports 80 (HTTP) and 443 (HTTPS) of every address."""

    def __init__(self, certificate: str) -> None:
        self.mood = "200 OK"
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate)
        for port in (80, 443):
            listener = socket.create_server(
                ("::", port), family=socket.AF_INET6, dualstack_ipv6=True
            )
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            own = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            own.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            if connection.getsockname()[1] == 443:
                connection = self.context.wrap_socket(connection, server_side=True)
            self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        mood = self.mood
        if mood == "closes":
            return
        request = b""
        while b"\r\n\r\n" not in request and (part := connection.recv(4096)):
            request += part
        _say(ascii(request.decode()))
        if mood == "hangs":
            select.select([connection], [], [], 30)
            return
        for octet in f"HTTP/1.1 {mood}\r\n".encode():
            connection.sendall(bytes([octet]))
        connection.sendall(b"Connection: close\r\n\r\n" + bytes(20000))
        with contextlib.suppress(OSError):
            connection.recv(1)


def _until_there(interface: str) -> None:
    deadline = time.monotonic() + 10
    while interface not in {name for _, name in socket.if_nameindex()}:
        assert time.monotonic() < deadline, f"{interface} has not come"
        time.sleep(0.01)


def main() -> None:
    """Configure the namespace, serve, and follow standard input."""
    interface, certificate, *words = sys.argv[1:]
    _until_there(interface)
    _ip("link set lo up")
    _ip(f"link set {interface} up")
    for word in words:
        peer, is_peer, mac = word.partition("=")
        if is_peer:
            route = "-6 " if ":" in peer else ""
            source = f"{'fe80::7/64' if ':' in peer else '192.0.2.7/24'}"
            _ip(f"address add {source} dev {interface}{' nodad' if ':' in peer else ''}")
            _ip(f"{route}neighbour add {peer} lladdr {mac} dev {interface}")
        else:
            _ip(f"address add {word} dev {interface}{' nodad' if ':' in word else ''}")
    server = Server(certificate)
    _say("ready")
    for line in sys.stdin:
        server.mood = line.strip()
        _say("ready")


if __name__ == "__main__":
    main()
