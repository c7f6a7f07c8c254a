# SPDX-License-Identifier: Apache-2.0
"""Messages between agents: what is believed, and what is not."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudlb.model.eastwest import (
    LONGEST,
    MOST_MISSES,
    FlowEntry,
    Kind,
    Message,
    Run,
    Sign,
    SignKind,
    Window,
    bodies,
    entries,
    load_body,
    load_of,
    run_bodies,
    runs,
    seal,
    sign_bodies,
    signs_of,
    unseal,
)
from cloudlb.model.load import Load

SECRETS = {1: b"one", 2: b"two"}
HELLO = Message(Kind.HELLO, "d1", 1_800_000_000_000_000_000, 7)
octets16 = st.binary(min_size=16, max_size=16)
port = st.binary(min_size=2, max_size=2)
flow = st.builds(
    FlowEntry,
    octets16,
    octets16,
    port,
    port,
    st.sampled_from((6, 17)),
    st.integers(0, 3),
    st.integers(0, 5),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    octets16,
)
ends = st.sampled_from([kind for kind in SignKind if kind.ends])
sign = st.builds(Sign, octets16, octets16, octets16, port, port, ends, st.integers(0, 0xFFFF))
message = st.builds(
    Message,
    st.sampled_from(Kind),
    st.text(min_size=1, max_size=60).filter(lambda name: len(name.encode()) < 100),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.binary(max_size=1200),
)


@given(message)
def test_what_is_sealed_is_unsealed(sent: Message) -> None:
    assert unseal(seal(sent, 2, SECRETS[2]), SECRETS) == sent


@given(st.lists(flow, max_size=100))
def test_connections_come_back_as_they_were(told: list[FlowEntry]) -> None:
    assert [entry for body in bodies(told) for entry in entries(body)] == told


@given(st.lists(sign, max_size=100))
def test_ends_of_connections_come_back_as_they_were(told: list[Sign]) -> None:
    assert [end for body in sign_bodies(told) for end in signs_of(body)] == told


@given(st.lists(sign, min_size=60, max_size=60))
def test_no_message_of_ends_is_longer_than_a_packet(told: list[Sign]) -> None:
    bodies_ = list(sign_bodies(told))
    sealed = [seal(Message(Kind.ENDED, "x" * 100, 0, 0, body), 1, b"") for body in bodies_]
    assert len(sealed) > 1
    assert max(map(len, sealed)) <= LONGEST


@given(st.binary(max_size=1300))
def test_ends_are_read_whole_or_not_at_all(noise: bytes) -> None:
    try:
        told = signs_of(noise)
    except ValueError:
        return
    assert b"".join(sign_bodies(told)) == noise


@given(sign.map(lambda end: end._replace(kind=SignKind.REFUSED)))
def test_other_hosts_end_connections_and_say_nothing_else(told: Sign) -> None:
    (body,) = sign_bodies([told])
    with pytest.raises(ValueError, match="ends no connection"):
        signs_of(body)


@given(st.lists(flow, min_size=60, max_size=60))
def test_no_message_is_longer_than_a_packet(told: list[FlowEntry]) -> None:
    sealed = [seal(Message(Kind.FLOWS, "x" * 100, 0, 0, body), 1, b"") for body in bodies(told)]
    assert len(sealed) > 1
    assert max(map(len, sealed)) <= LONGEST


@given(st.data())
def test_a_message_that_was_changed_anywhere_is_refused(data: st.DataObject) -> None:
    octets = bytearray(seal(HELLO, 1, SECRETS[1]))
    place = data.draw(st.integers(0, len(octets) - 1))
    octets[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError):
        unseal(bytes(octets), SECRETS)


@given(st.binary(max_size=2000))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(ValueError):
        unseal(noise, SECRETS)


def test_a_key_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError):
        unseal(seal(HELLO, 3, b"three"), SECRETS)


def test_a_body_of_another_length_holds_no_connections() -> None:
    with pytest.raises(ValueError):
        entries(bytes(58))


class TestWindow:
    def test_each_number_counts_once(self) -> None:
        window = Window()
        said = [window.accepts(1, number) for number in (1, 2, 2, 5, 3, 3, 5)]
        assert said == [True, True, False, True, True, False, False]

    def test_what_is_far_behind_is_refused(self) -> None:
        window = Window()
        assert window.accepts(1, 5000)
        assert not window.accepts(1, 5000 - 1024)
        assert window.accepts(1, 5000 - 1023)

    def test_what_was_said_before_a_restart_is_refused(self) -> None:
        window = Window()
        assert window.accepts(2, 1)
        assert not window.accepts(1, 100)
        assert window.accepts(3, 1)

    def test_a_gap_is_noticed_once(self) -> None:
        window = Window()
        window.accepts(1, 1)
        assert window.missed(), "what was said before the first word is not known"
        window.accepts(1, 2)
        assert not window.missed()
        window.accepts(1, 4)
        assert window.missed()
        assert not window.missed()

    @given(st.lists(st.integers(1, 3000), max_size=60))
    def test_nothing_is_accepted_twice(self, numbers: list[int]) -> None:
        window = Window()
        accepted = [number for number in numbers if window.accepts(1, number)]
        assert len(accepted) == len(set(accepted))


@pytest.mark.requirement("D6")
def test_a_load_is_read_as_it_was_written() -> None:
    assert load_of(load_body(Load(0.25, 1000.0))) == Load(0.25, 1000.0)


@pytest.mark.parametrize(
    "body",
    [b"", bytes(15), bytes(17), load_body(Load(math.nan, 1)), load_body(Load(1, math.inf))],
)
def test_what_is_no_load_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="load"):
        load_of(body)


run = st.tuples(octets16, st.integers(0, MOST_MISSES))


@given(st.lists(run, max_size=300))
def test_what_a_host_says_of_its_guests_comes_back_as_it_was(told: list[Run]) -> None:
    assert [one for body in run_bodies(told) for one in runs(body)] == told


@given(st.lists(run, min_size=200, max_size=200))
def test_of_many_guests_it_says_so_in_several_messages(told: list[Run]) -> None:
    longest = "x" * 255
    sealed = [seal(Message(Kind.HEALTH, longest, 0, 0, b), 1, b"") for b in run_bodies(told)]
    assert len(sealed) > 1
    assert max(map(len, sealed)) <= LONGEST


@given(st.binary(max_size=1400))
def test_other_octets_say_nothing_of_guests(noise: bytes) -> None:
    if len(noise) % 17:
        with pytest.raises(ValueError, match="members"):
            runs(noise)
    else:
        assert b"".join(run_bodies(runs(noise))) == noise
