# SPDX-License-Identifier: Apache-2.0
"""The host's side of a guest's control channel; `guest/control` is the other side."""

import base64
import contextlib
import fcntl
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

GRACE_SECONDS = 5.0
"""How much longer than the command itself its answer may take on a loaded machine."""


def request_line(token: str, command: str, seconds: float) -> bytes:
    """Return the bytes that ask for a command; the empty line ends whatever was half sent."""
    text = base64.b64encode(command.encode()).decode()
    return f"\n{token} {max(1, round(seconds))} {text}\n".encode()


def parse_answer(line: bytes, token: str) -> tuple[int, str, str] | None:
    """Return status, output and errors; None when the line does not answer the token."""
    words = line.decode(errors="replace").split()
    if len(words) != 4 or words[0] != token:
        return None
    output, errors = (_decoded(word) for word in words[2:])
    return int(words[1]), output, errors


def ask(
    path: Path, command: str, seconds: float, grace: float = GRACE_SECONDS
) -> tuple[int, str, str]:
    """Run shell text in the guest; TimeoutError, or ConnectionError when there is no guest."""
    deadline = time.monotonic() + seconds + grace
    token = secrets.token_hex(6)
    with _alone(path), socket.socket(socket.AF_UNIX) as channel:
        try:
            channel.connect(str(path))
        except FileNotFoundError as error:
            raise ConnectionRefusedError(str(path)) from error
        channel.sendall(request_line(token, command, seconds))
        for line in _lines(channel, deadline):
            answer = parse_answer(line, token)
            if answer is not None:
                return answer
    raise ConnectionResetError(f"{path} was closed before the answer")


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """QEMU serves one peer at a time; a second one would wait without an end."""
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _lines(channel: socket.socket, deadline: float) -> Iterator[bytes]:
    waiting = b""
    while True:
        channel.settimeout(max(0.001, deadline - time.monotonic()))
        received = channel.recv(65536)
        if not received:
            return
        *lines, waiting = (waiting + received).split(b"\n")
        yield from lines


def _decoded(word: str) -> str:
    return "" if word == "-" else base64.b64decode(word).decode(errors="replace")
