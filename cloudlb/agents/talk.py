# SPDX-License-Identifier: Apache-2.0
"""A question by HTTP, plain or through TLS, as octets to send and octets that came; pure."""

import re
import ssl
from functools import lru_cache

from cloudlb.model.health import is_expected
from cloudlb.model.pool import Monitor, MonitorType

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})( [^\r\n]*)?\r?\n")
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_LONGEST = 16384
"""Octets of an answer within which its status must stand."""


def request(monitor: Monitor, host: str) -> bytes:
    """The request (RFC 9112); ``host`` is named unless the monitor names another."""
    version = monitor.http_version or "1.1"
    lines = [f"{monitor.method or 'GET'} {monitor.path or '/'} HTTP/{version}"]
    if version != "1.0" or monitor.host:
        lines.append(f"Host: {monitor.host or host}")
    lines += ["User-Agent: cloudlb", "Accept: */*", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("ascii")


@lru_cache(maxsize=256)
def context(ca: str | None) -> ssl.SSLContext:
    """TLS that takes any certificate, or those that go back to ``ca`` (PEM). Raises ValueError."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca is None:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
        return made
    try:
        made.load_verify_locations(cadata=ca)
    except ssl.SSLError as error:
        raise ValueError(f"its ca is none: {error}") from None
    return made


class Plain:
    """Octets as they are."""

    def __init__(self, question: bytes) -> None:
        self._question = question

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """What to send, and what was said, now that ``data`` has come; first of all nothing."""
        question, self._question = self._question, b""
        return question, data


class Tls:
    """Octets through TLS. Methods raise `ssl.SSLError`."""

    def __init__(self, question: bytes, ca: str | None, name: str) -> None:
        self._question, self._is_agreed = question, False
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._layer = context(ca).wrap_bio(
            self._incoming, self._outgoing, server_hostname=name or None
        )

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """What to send, and what was said, now that ``data`` has come; first of all nothing."""
        self._incoming.write(data)
        said = b""
        try:
            if not self._is_agreed:
                self._layer.do_handshake()
                self._is_agreed = True
                self._layer.write(self._question)
            while part := self._layer.read(_LONGEST):
                said += part
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        return self._outgoing.read(), said


class Talk:
    """A question and how far its answer is. ``failure`` says why the answer is none."""

    def __init__(self, monitor: Monitor, address: str, port: int) -> None:
        self._expected = monitor.expected_codes or "200"
        self._said = b""
        self.status, self.failure = 0, ""
        question = request(monitor, _authority(monitor, address, port))
        self._way: Plain | Tls = Plain(question)
        if monitor.type is MonitorType.HTTPS:
            self._way = Tls(question, monitor.ca, server_name(monitor, address))

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be heard."""
        return bool(self.status or self.failure)

    @property
    def verdict(self) -> tuple[bool, str]:
        """Whether the answer is a good one, and what is to be said of it."""
        if self.failure:
            return False, self.failure
        good = is_expected(self._expected, self.status)
        more = "" if good else f", expected is {self._expected}"
        return good, f"answers with status {self.status}{more}"

    def begin(self) -> bytes:
        """What to send first."""
        return self.feed(b"")

    def feed(self, data: bytes) -> bytes:
        """What to send now that ``data`` has come."""
        try:
            answer, said = self._way.feed(data)
        except ssl.SSLError as error:
            self.failure = f"fails at TLS: {_plain(error)}"
            return b""
        self._hear(said)
        return answer

    def _hear(self, said: bytes) -> None:
        """Look for the status behind those that only say that there is more to come."""
        self._said += said
        while found := _STATUS_LINE.match(self._said):
            status = int(found[1])
            if status >= 200 or status == 101:
                self.status = status
                return
            end = _END_OF_HEAD.search(self._said)
            if end is None:
                break
            self._said = self._said[end.end() :]
        if len(self._said) > _LONGEST or (b"\n" in self._said and not found):
            self.failure = "does not answer in HTTP"


def _plain(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    return (error.reason or str(error)).lower().replace("_", " ")


def server_name(monitor: Monitor, address: str) -> str:
    """The name that TLS asks for, and that a certificate must have if it is looked at."""
    host = monitor.host or ""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return monitor.sni or name or address


def _authority(monitor: Monitor, address: str, port: int) -> str:
    """The host as a client names it that knows its address only."""
    host = f"[{address}]" if ":" in address else address
    usual = 443 if monitor.type is MonitorType.HTTPS else 80
    return host if port == usual else f"{host}:{port}"
