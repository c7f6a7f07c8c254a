# SPDX-License-Identifier: Apache-2.0
"""Choice of members: pure functions that the kernel programs follow.

A *rotation* is the sequence that round robin walks. A *table* maps the hash of a client to a
member; it changes in place, moving as few entries as the new shares need.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar
from uuid import UUID

from cloudlb.model.network import Address

M = TypeVar("M")
_MASK = 0xFFFFFFFF
_SEED_OF_SEEDS = 0x73656564
ENTRIES_PER_MEMBER = 16


def hash_words(words: Sequence[int], seed: int) -> int:
    """Hash 32-bit words to 32 bits, keyed by ``seed`` (MurmurHash3 x86_32's mixing).

    The programs in net/bpf/schedule.h compute the same.
    """
    h = seed & _MASK
    for word in words:
        k = word * 0xCC9E2D51 & _MASK
        k = (k << 15 | k >> 17) & _MASK
        h ^= k * 0x1B873593 & _MASK
        h = (h << 13 | h >> 19) & _MASK
        h = (h * 5 + 0xE6546B64) & _MASK
    h ^= 4 * len(words)
    h ^= h >> 16
    h = h * 0x85EBCA6B & _MASK
    h ^= h >> 13
    h = h * 0xC2B2AE35 & _MASK
    return h ^ h >> 16


def client_hash(client: Address, seed: int) -> int:
    """The hash of a client's address that source hashing uses."""
    return hash_words(_words(client), seed)


def flow_hash(client: Address, client_port: int, port: int, seed: int) -> int:
    """The hash of a client's address and of both ports that the other tables use."""
    ports = port.to_bytes(2) + client_port.to_bytes(2)
    return hash_words([*_words(client), int.from_bytes(ports, "little")], seed)


def pool_seed(pool_id: UUID) -> int:
    """The key of a pool's hashes: the same on all its directors, and told to nobody but those
    who know the pool's id, for with it a client could choose its member.
    """
    return hash_words([pool_id.int >> shift & _MASK for shift in (0, 32, 64, 96)], _SEED_OF_SEEDS)


def _words(client: Address) -> list[int]:
    octets = client.packed if client.version == 6 else bytes(10) + b"\xff\xff" + client.packed
    return [int.from_bytes(octets[i : i + 4], "little") for i in range(0, 16, 4)]


def table_size(members: int) -> int:
    """Entries of a table for so many members: a power of two of at least 16 for each."""
    wanted = max(1, members) * ENTRIES_PER_MEMBER
    return 1 << (wanted - 1).bit_length()


def shares(weights: Mapping[M, int], entries: int) -> dict[M, int]:
    """How many of ``entries`` each member gets: by weight, remainders to the largest fractions.

    Ties go to the earlier member (L24). Weights of 0 get nothing; no weights give no shares. Every
    other weight gets an entry, taken from the largest share, where there is one for each: the
    caller makes the table large enough for that (`table_size`).
    """
    total = sum(weights.values())
    if total == 0:
        return {}
    exact = {m: divmod(w * entries, total) for m, w in weights.items() if w}
    given = {m: whole for m, (whole, _) in exact.items()}
    order = sorted(exact, key=lambda m: -exact[m][1])
    for member in order[: entries - sum(given.values())]:
        given[member] += 1
    return _lifted(given, weights)


def _lifted(given: dict[M, int], weights: Mapping[M, int]) -> dict[M, int]:
    """Shares of which none is empty; among equal shares the lightest, latest member gives."""
    for member in [m for m, share in given.items() if not share]:
        largest = max(reversed(given), key=lambda m: (given[m], -weights[m]))
        if given[largest] > 1:
            given[largest] -= 1
            given[member] = 1
    return given


def refill(table: Sequence[int | None], weights: Mapping[int, int]) -> list[int | None]:
    """The table for new weights that differs from ``table`` in as few entries as possible.

    An entry moves only when its member has left or has more than its share. Without any weight
    every entry becomes None.
    """
    wanted = shares(weights, len(table))
    kept: list[int | None] = []
    room = dict(wanted)
    for owner in table:
        if owner is not None and room.get(owner, 0) > 0:
            room[owner] -= 1
            kept.append(owner)
        else:
            kept.append(None)
    return _fill(kept, room)


def resize(table: Sequence[int | None], entries: int) -> list[int | None]:
    """The same table with another power-of-two size: clients keep their members where it grows.

    The entry of a hash is its lowest bits, so doubling repeats the table.
    """
    if not table:
        return [None] * entries
    return [table[index % len(table)] for index in range(entries)]


def _fill(kept: list[int | None], room: Mapping[int, int]) -> list[int | None]:
    """Give free entries to members with room, interleaved so that neighbours differ."""
    queue = [[member, count] for member, count in room.items() if count > 0]
    filled = list(kept)
    turn = 0
    for index, owner in enumerate(filled):
        if owner is not None or not queue:
            continue
        turn %= len(queue)
        filled[index] = queue[turn][0]
        queue[turn][1] -= 1
        if queue[turn][1] == 0:
            queue.pop(turn)
        else:
            turn += 1
    return filled
