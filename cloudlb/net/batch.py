# SPDX-License-Identifier: Apache-2.0
"""Many frames in one call of the kernel: sendmmsg and recvmmsg, for which Python has no names."""

import ctypes
import errno
import os
import struct
from itertools import accumulate, chain

MOST = 64
"""Frames in one call."""
_HEADER = struct.Struct("=QIxxxxQQQQixxxxIxxxx")  # struct mmsghdr on 64-bit Linux
_LENGTH_AT = 14  # of its field msg_len, in words
_IOVEC = 16
_DONTWAIT = 0x40


class _Vectors:
    """``MOST`` message headers, with one piece of memory each."""

    def __init__(self) -> None:
        self.pieces = ctypes.create_string_buffer(MOST * _IOVEC)
        self.headers = ctypes.create_string_buffer(MOST * _HEADER.size)
        first = ctypes.addressof(self.pieces)
        for number in range(MOST):
            piece = first + number * _IOVEC
            fields = 0, 0, piece, 1, 0, 0, 0, 0
            _HEADER.pack_into(self.headers, number * _HEADER.size, *fields)

    def aim(self, address: int, lengths: list[int]) -> None:
        """Let the pieces lie one behind the other from ``address`` on."""
        starts = accumulate(lengths, initial=address)
        fields = chain.from_iterable(zip(starts, lengths, strict=False))
        struct.pack_into(f"={2 * len(lengths)}Q", self.pieces, 0, *fields)


class Batches:
    """Sends and receives on sockets that do not wait. ``longest``: octets of a frame received."""

    def __init__(self, longest: int) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._longest = longest
        self._sent, self._received = _Vectors(), _Vectors()
        self._memory = ctypes.create_string_buffer(MOST * longest)
        self._octets = memoryview(self._memory).cast("B")
        self._received.aim(ctypes.addressof(self._memory), [longest] * MOST)
        headers = memoryview(self._received.headers).cast("B").cast("I")
        self._lengths = headers[_LENGTH_AT :: _HEADER.size // 4]

    def send(self, descriptor: int, frames: list[bytes]) -> int:
        """The number of frames that the kernel had room for. Raises OSError."""
        done = 0
        while part := frames[done : done + MOST]:
            whole = b"".join(part)
            address = ctypes.cast(ctypes.c_char_p(whole), ctypes.c_void_p).value or 0
            self._sent.aim(address, list(map(len, part)))
            headers = self._sent.headers
            count = self._libc.sendmmsg(descriptor, headers, len(part), _DONTWAIT)
            if count < 0:
                _check((errno.EAGAIN, errno.ENOBUFS))
                break
            done += count
        return done

    def receive(self, descriptor: int) -> list[bytes]:
        """All frames that have arrived. Raises OSError."""
        frames: list[bytes] = []
        count = MOST
        while count == MOST:
            headers = self._received.headers
            count = self._libc.recvmmsg(descriptor, headers, MOST, _DONTWAIT, None)
            if count < 0:
                _check((errno.EAGAIN,))
                break
            octets, longest = self._octets, self._longest
            frames += [
                bytes(octets[at : at + length])
                for at, length in zip(
                    range(0, count * longest, longest), self._lengths[:count].tolist(), strict=True
                )
            ]
        return frames


def _check(harmless: tuple[int, ...]) -> None:
    number = ctypes.get_errno()
    if number not in harmless:
        raise OSError(number, os.strerror(number))
