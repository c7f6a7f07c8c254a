# SPDX-License-Identifier: Apache-2.0
"""Packet sockets: frames out of and into one interface, past the host's IP stack."""

import ctypes
import socket
import struct

_SO_ATTACH_FILTER = 26
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
_ETH_P_ALL, _ETH_P_IP, _ETH_P_IPV6 = 0x0003, 0x0800, 0x86DD


class _Program(ctypes.Structure):
    """struct sock_fprog (linux/filter.h)."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


# Classic BPF (linux/filter.h): code, jump if true, jump if false, constant.
_LOAD_BYTE, _LOAD_HALF, _LOAD_HALF_X = 0x30, 0x28, 0x48
_LOAD_BYTE_X, _IP_HEADER_LENGTH = 0x50, 0xB1
_JUMP_EQUAL, _RETURN = 0x15, 0x06

Instruction = tuple[int, int, int, int]


def _filter(port: int) -> list[Instruction]:
    """Accept TCP segments to ``port`` and echo replies of both families, nothing else.

    Without it every packet that a director forwards would be copied to its agent.
    """
    return [
        (_LOAD_HALF, 0, 0, 12),
        (_JUMP_EQUAL, 0, 8, _ETH_P_IP),
        (_LOAD_BYTE, 0, 0, 23),
        (_IP_HEADER_LENGTH, 0, 0, 14),
        (_JUMP_EQUAL, 0, 2, socket.IPPROTO_TCP),
        (_LOAD_HALF_X, 0, 0, 16),
        (_JUMP_EQUAL, 11, 12, port),
        (_JUMP_EQUAL, 0, 11, socket.IPPROTO_ICMP),
        (_LOAD_BYTE_X, 0, 0, 14),
        (_JUMP_EQUAL, 8, 9, 0),
        (_JUMP_EQUAL, 0, 8, _ETH_P_IPV6),
        (_LOAD_BYTE, 0, 0, 20),
        (_JUMP_EQUAL, 0, 2, socket.IPPROTO_TCP),
        (_LOAD_HALF, 0, 0, 56),
        (_JUMP_EQUAL, 3, 4, port),
        (_JUMP_EQUAL, 0, 3, socket.IPPROTO_ICMPV6),
        (_LOAD_BYTE, 0, 0, 54),
        (_JUMP_EQUAL, 0, 1, 129),
        (_RETURN, 0, 0, 0xFFFF),
        (_RETURN, 0, 0, 0),
    ]


class ProbeSocket:
    """Sends probes out of an interface and receives their answers.

    ``port`` is the TCP source port of probes. The socket is bound to all protocols: only such
    sockets see a frame before the director's program, which drops answers to probes.
    Raises OSError.
    """

    def __init__(self, interface: str, port: int) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._attach(_filter(port))
        self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        self._socket.bind((interface, _ETH_P_ALL))
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """For select."""
        return self._socket.fileno()

    def send(self, frame: bytes) -> None:
        """Send a whole frame."""
        self._socket.send(frame)

    def receive(self) -> list[bytes]:
        """All frames that have arrived."""
        frames = []
        while True:
            try:
                frames.append(self._socket.recv(256))
            except BlockingIOError:
                return frames

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _attach(self, instructions: list[Instruction]) -> None:
        code = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
        buffer = ctypes.create_string_buffer(code)
        program = _Program(len(instructions), ctypes.addressof(buffer))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(program))


def send_frame(interface: str, frame: bytes) -> None:
    """Send one whole frame out of an interface. Raises OSError."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as channel:
        channel.bind((interface, 0))
        channel.send(frame)


def reserve_port() -> socket.socket:
    """A TCP port that no other program of this host gets while the socket lives."""
    holder = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    holder.bind(("::", 0))
    return holder
