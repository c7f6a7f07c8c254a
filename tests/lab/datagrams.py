# SPDX-License-Identifier: Apache-2.0
"""Datagrams of any size from one port of the client, as its kernel sends them or frame by frame.

Runs on the client. Standard input is JSON: ``address``, ``port`` (of the client), and ``sent``: a
list whose items are sizes of datagrams, or lists of frames in hex that go out of eth0 one by one.
Prints who has answered each of them, and how many octets came back; each is sent up to three
times, since of what is too large for a tunnel the first one only brings its size.
"""

import json
import socket
import sys

SENDS = 3


def main() -> None:
    order = json.load(sys.stdin)
    family = socket.AF_INET6 if ":" in order["address"] else socket.AF_INET
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    link.bind(("eth0", 0))
    datagrams = socket.socket(family, socket.SOCK_DGRAM)
    datagrams.bind(("", order["port"]))
    datagrams.connect((order["address"], 7))
    datagrams.settimeout(3)
    answers = []
    for sent in order["sent"]:
        for _ in range(SENDS):
            if isinstance(sent, int):
                datagrams.send(b"x" * sent)
            else:
                for frame in sent:
                    link.send(bytes.fromhex(frame))
            try:
                answer = datagrams.recv(65535)
            except OSError:
                continue
            answers.append([answer.decode().split()[0], len(answer)])
            break
        else:
            answers.append(["", 0])
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    main()
