# SPDX-License-Identifier: Apache-2.0
"""Packet sockets: frames out of and into one interface, past the host's IP stack."""

import ctypes
import errno
import secrets
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

from cloudlb.model.ether import Mac
from cloudlb.net.batch import Batches

_SO_ATTACH_FILTER = 26
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
_ETH_P_ALL, _ETH_P_IP, _ETH_P_IPV6 = 0x0003, 0x0800, 0x86DD


class _Program(ctypes.Structure):
    """struct sock_fprog (linux/filter.h)."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


# Classic BPF (linux/filter.h).
_LOAD_BYTE, _LOAD_HALF, _LOAD_HALF_X = 0x30, 0x28, 0x48
_IP_HEADER_LENGTH, _AND = 0xB1, 0x54
_JUMP_EQUAL, _RETURN = 0x15, 0x06
_ECHO_REPLY, _PORT_UNREACHABLE = 0x0000, 0x0303  # type and code
_ECHO_REPLY_6, _PORT_UNREACHABLE_6 = 0x8100, 0x0104

Line = str | tuple[int, int] | tuple[int, int, str, str]
"""A label; code and constant; or these with the labels to go on at if equal, and if not."""

PORTS = 16
"""Source ports of probes: a power of two, since filters tell them by their first bits."""
_SMALLEST_BLOCK, _BLOCKS = 640, 3456
_DROP_ALL: list[Line] = [(_RETURN, 0)]
_SLOT = 8192
_SO_RCVBUFFORCE, _RECEIVE_BUFFER = 33, 4 << 20


def _answers(first_port: int) -> list[Line]:
    """Accept TCP and UDP to our ports, echo replies and port unreachable, nothing else.

    Without it every packet that a director forwards would be copied to its agent.
    """
    return [
        (_LOAD_HALF, 12),
        (_JUMP_EQUAL, _ETH_P_IP, "IPv4", "no IPv4"),
        "IPv4",
        (_LOAD_BYTE, 23),
        (_IP_HEADER_LENGTH, 14),
        (_JUMP_EQUAL, socket.IPPROTO_TCP, "port", "no TCP"),
        "no TCP",
        (_JUMP_EQUAL, socket.IPPROTO_UDP, "port", "no UDP"),
        "no UDP",
        (_JUMP_EQUAL, socket.IPPROTO_ICMP, "ICMP", "drop"),
        "ICMP",
        (_LOAD_HALF_X, 14),
        (_JUMP_EQUAL, _ECHO_REPLY, "accept", "no reply"),
        "no reply",
        (_JUMP_EQUAL, _PORT_UNREACHABLE, "accept", "drop"),
        "port",
        (_LOAD_HALF_X, 16),
        (_AND, 0x10000 - PORTS),
        (_JUMP_EQUAL, first_port, "accept", "drop"),
        "no IPv4",
        (_JUMP_EQUAL, _ETH_P_IPV6, "IPv6", "drop"),
        "IPv6",
        (_LOAD_BYTE, 20),
        (_JUMP_EQUAL, socket.IPPROTO_TCP, "port 6", "no TCP 6"),
        "no TCP 6",
        (_JUMP_EQUAL, socket.IPPROTO_UDP, "port 6", "no UDP 6"),
        "no UDP 6",
        (_JUMP_EQUAL, socket.IPPROTO_ICMPV6, "ICMPv6", "drop"),
        "ICMPv6",
        (_LOAD_HALF, 54),
        (_JUMP_EQUAL, _ECHO_REPLY_6, "accept", "no reply 6"),
        "no reply 6",
        (_JUMP_EQUAL, _PORT_UNREACHABLE_6, "accept", "drop"),
        "port 6",
        (_LOAD_HALF, 56),
        (_AND, 0x10000 - PORTS),
        (_JUMP_EQUAL, first_port, "accept", "drop"),
        "accept",
        (_RETURN, 0xFFFF),
        "drop",
        (_RETURN, 0),
    ]


def _assembled(lines: list[Line]) -> bytes:
    """The instructions (struct sock_filter), with jumps as distances."""
    places: dict[str, int] = {}
    code: list[tuple[int, int] | tuple[int, int, str, str]] = []
    for line in lines:
        if isinstance(line, str):
            places[line] = len(code)
        else:
            code.append(line)
    made = b""
    for at, instruction in enumerate(code, 1):
        jumps = [places[label] - at for label in instruction[2:]] or [0, 0]
        made += struct.pack("=HBBI", instruction[0], *jumps, instruction[1])
    return made


def _attach(to: socket.socket, lines: list[Line]) -> None:
    code = _assembled(lines)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.addressof(buffer))
    to.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(program))


class ProbeSocket:
    """Sends probes out of an interface and receives their answers.

    ``first_port`` is the first of the `PORTS` source ports of probes. The socket is bound to all
    protocols: only such sockets see a frame before the director's program, which drops answers
    to probes. Raises OSError.
    """

    def __init__(self, interface: str, first_port: int) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        _attach(self._socket, _answers(first_port))
        self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        with suppress(PermissionError):  # then the kernel's limit holds
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        self._socket.bind((interface, _ETH_P_ALL))
        self._socket.setblocking(False)
        self._batches = Batches(_SLOT)

    def fileno(self) -> int:
        """For select."""
        return self._socket.fileno()

    def send(self, frames: list[bytes]) -> int:
        """Send whole frames; the number of those that the kernel had room for."""
        return self._batches.send(self._socket.fileno(), frames)

    def receive(self) -> list[bytes]:
        """All frames that have arrived."""
        return self._batches.receive(self._socket.fileno())

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class ReservedPorts:
    """`PORTS` TCP and UDP ports in a row, from ``first`` on, that are nobody else's until closed.

    The host's stack neither answers nor keeps what comes to them, not even with a reset, so that
    they belong to packet sockets alone. ``draw(n)`` gives a number below n. Raises OSError.
    """

    def __init__(self, draw: Callable[[int], int] = secrets.randbelow, attempts: int = 64) -> None:
        for left in reversed(range(attempts)):
            self.first = (_SMALLEST_BLOCK + draw(_BLOCKS)) * PORTS
            self._holders: list[socket.socket] = []
            try:
                for number in range(PORTS):
                    self._hold(self.first + number)
            except OSError as error:
                self.close()
                if error.errno != errno.EADDRINUSE or not left:
                    raise
            else:
                return

    def _hold(self, port: int) -> None:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            holder = socket.socket(socket.AF_INET6, kind)
            self._holders.append(holder)
            _attach(holder, _DROP_ALL)
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            holder.bind(("::", port))
            if kind == socket.SOCK_STREAM:
                holder.listen(1)

    def close(self) -> None:
        """Give the ports back."""
        for holder in self._holders:
            holder.close()


def send_frame(interface: str, frame: bytes) -> None:
    """Send one whole frame out of an interface. Raises OSError."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as channel:
        channel.bind((interface, 0))
        channel.send(frame)


def mac_of(interface: str) -> Mac:
    """The Ethernet address of an interface. Raises OSError."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as channel:
        channel.bind((interface, 0))
        return Mac.unpack(channel.getsockname()[4])
