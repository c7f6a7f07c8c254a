# SPDX-License-Identifier: Apache-2.0
"""Requests by HTTP and what is made of their answers, octet for octet."""

from typing import Any

import pytest

from cloudlb.agents.talk import Talk, context, request, server_name
from cloudlb.model.pool import Monitor, MonitorType
from tests.certificates import Authority

pytestmark = pytest.mark.requirement("L13")
ADDRESS = "192.0.2.100"


def http(**settings: Any) -> Monitor:
    return Monitor(MonitorType.HTTP, **settings)


def https(**settings: Any) -> Monitor:
    return Monitor(MonitorType.HTTPS, **settings)


def heard(*parts: bytes, **settings: Any) -> Talk:
    """A talk in which the member has said this."""
    talk = Talk(http(**settings), ADDRESS, 80)
    talk.begin()
    for part in parts:
        talk.feed(part)
    return talk


class TestRequest:
    def test_it_is_a_get_of_the_address_that_is_asked(self) -> None:
        lines = Talk(http(), ADDRESS, 80).begin().decode().split("\r\n")
        assert lines[:2] == ["GET / HTTP/1.1", f"Host: {ADDRESS}"]
        assert "Connection: close" in lines
        assert lines[-2:] == ["", ""]

    @pytest.mark.parametrize(
        ("monitor", "address", "port", "host"),
        [
            (http(), ADDRESS, 8080, "192.0.2.100:8080"),
            (http(), "2001:db8::1", 80, "[2001:db8::1]"),
            (http(), "2001:db8::1", 443, "[2001:db8::1]:443"),
            (http(host="shop.example"), ADDRESS, 8080, "shop.example"),
        ],
    )
    def test_the_port_is_named_where_it_is_not_the_usual_one(
        self, monitor: Monitor, address: str, port: int, host: str
    ) -> None:
        assert f"\r\nHost: {host}\r\n".encode() in Talk(monitor, address, port).begin()

    @pytest.mark.parametrize(("host", "named"), [(None, False), ("shop.example", True)])
    def test_1_0_names_a_host_only_if_asked_to(self, host: str | None, named: bool) -> None:
        sent = request(http(http_version="1.0", host=host), ADDRESS)
        assert sent.startswith(b"GET / HTTP/1.0\r\n")
        assert (b"\r\nHost:" in sent) is named


class TestAnswer:
    @pytest.mark.parametrize("line", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200\n"])
    def test_a_status_line_is_enough(self, line: bytes) -> None:
        assert heard(line).verdict == (True, "answers with status 200")

    def test_it_may_come_octet_by_octet(self) -> None:
        line = b"HTTP/1.1 503 Busy\r\n"
        assert not heard(*(bytes([octet]) for octet in line[:-1])).is_over
        talk = heard(*(bytes([octet]) for octet in line))
        assert talk.verdict == (False, "answers with status 503, expected is 200")

    def test_what_is_expected_is_the_monitors(self) -> None:
        talk = heard(b"HTTP/1.1 302 Found\r\n", expected_codes="200,300-308")
        assert talk.verdict == (True, "answers with status 302")

    def test_word_that_there_is_more_to_come_is_passed_over(self) -> None:
        early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        assert not heard(early).is_over
        assert heard(early, b"HTTP/1.1 200 OK\r\n").status == 200
        assert heard(early + early + b"HTTP/1.1 200 OK\r\n").status == 200
        assert not heard(early[:-2]).is_over

    @pytest.mark.parametrize(
        "said", [b"220 mail ready\r\n", b"HTTP/1.1 999 \r\n", b"HTTP/2.0 200 OK\r\n", b"\n"]
    )
    def test_another_language_is_a_failure(self, said: bytes) -> None:
        assert heard(said).verdict == (False, "does not answer in HTTP")

    def test_an_endless_line_is_a_failure(self) -> None:
        assert heard(b"x" * 20000).failure == "does not answer in HTTP"

    def test_plain_text_is_no_tls(self) -> None:
        talk = Talk(https(), ADDRESS, 443)
        assert talk.begin()[0] == 0x16  # a handshake record (RFC 8446, 5.1)
        talk.feed(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        assert "fails at TLS" in talk.failure


class TestNames:
    @pytest.mark.parametrize(
        ("monitor", "name"),
        [
            (https(), ADDRESS),
            (https(host="shop.example:8443"), "shop.example"),
            (https(host="[2001:db8::1]:8443"), "2001:db8::1"),
            (https(host="shop.example", sni="www.example"), "www.example"),
        ],
    )
    def test_tls_asks_for_the_most_particular_name(self, monitor: Monitor, name: str) -> None:
        assert server_name(monitor, ADDRESS) == name

    def test_a_name_is_sent_and_an_address_is_not(self) -> None:
        assert b"www.example" in Talk(https(sni="www.example"), ADDRESS, 443).begin()
        assert ADDRESS.encode() not in Talk(https(), ADDRESS, 443).begin()

    def test_an_authority_that_is_none_is_a_value_error(self) -> None:
        with pytest.raises(ValueError, match="its ca is none"):
            Talk(https(ca="x"), ADDRESS, 443)

    def test_contexts_of_the_same_authority_are_one(self) -> None:
        pem = Authority().pem
        assert context(pem) is context(pem)
