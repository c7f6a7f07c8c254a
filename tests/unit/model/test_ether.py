# SPDX-License-Identifier: Apache-2.0
"""Ethernet addresses."""

from ipaddress import IPv6Address

import pytest

from cloudlb.model.ether import Mac


def test_the_text_is_lower_case() -> None:
    assert Mac("52:54:00:AB:CD:EF") == Mac("52:54:00:ab:cd:ef")
    assert str(Mac("52:54:00:AB:CD:EF")) == "52:54:00:ab:cd:ef"


@pytest.mark.parametrize(
    "text", ["", "52:54:00:ab:cd", "52-54-00-ab-cd-ef", "525400abcdef", "52:54:00:ab:cd:eg\n"]
)
def test_other_texts_are_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="is not an Ethernet address"):
        Mac(text)


def test_a_line_end_is_no_part_of_an_address() -> None:
    with pytest.raises(ValueError):
        Mac("52:54:00:ab:cd:ef\n")


def test_packing_and_unpacking_are_inverse() -> None:
    assert Mac("52:54:00:12:34:56").packed == b"\x52\x54\x00\x12\x34\x56"
    assert Mac.unpack(b"\x52\x54\x00\x12\x34\x56") == Mac("52:54:00:12:34:56")


def test_the_link_local_address_is_that_of_rfc_4291() -> None:
    """The example of appendix A, 34-56-78-9A-BC-DE, has the interface id 3656:78ff:fe9a:bcde."""
    assert Mac("34:56:78:9a:bc:de").link_local == IPv6Address("fe80::3656:78ff:fe9a:bcde")


def test_addresses_are_ordered() -> None:
    assert Mac("02:00:00:00:00:01") < Mac("02:00:00:00:00:0a")
