# SPDX-License-Identifier: Apache-2.0
"""What a monitor must not say, beyond its schema."""

import ssl

from cloudlb.model.errors import InvalidRequest
from cloudlb.model.pool import Monitor, MonitorType, Pool

_WEB = (MonitorType.HTTP, MonitorType.HTTPS)
_ONLY_OF: dict[str, tuple[MonitorType, ...]] = {
    "port": tuple(kind for kind in MonitorType if kind.protocol),
    "payload": (MonitorType.UDP,),
    "accept_silence": (MonitorType.UDP,),
    **dict.fromkeys(("method", "path", "expected_codes", "host", "http_version"), _WEB),
    "ca": (MonitorType.HTTPS,),
    "sni": (MonitorType.HTTPS,),
}
"""The types of probes that know a setting; the others refuse it."""


def check(pool: Pool) -> None:
    """Raise `InvalidRequest` for a monitor that contradicts itself or its pool."""
    if pool.monitor is not None:
        _check_times(pool.monitor)
        _check_settings(pool.monitor)
        _check_port(pool, pool.monitor)
        _check_codes(pool.monitor)
        _check_ca(pool.monitor)


def _check_times(monitor: Monitor) -> None:
    if monitor.timeout > monitor.interval:
        raise _invalid(
            "timeout",
            f"A probe must be answered before the next one is sent: {monitor.timeout:g} s is "
            f"longer than the interval of {monitor.interval:g} s. Make this shorter, or the "
            "interval longer.",
        )


def _check_settings(monitor: Monitor) -> None:
    for name, kinds in _ONLY_OF.items():
        if getattr(monitor, name) is not None and monitor.type not in kinds:
            raise _invalid(
                name,
                f"Probes by {monitor.type} have no {name}; leave it out, or probe by "
                f"{' or '.join(kinds)}.",
            )


def _check_port(pool: Pool, monitor: Monitor) -> None:
    protocol = monitor.type.protocol
    if protocol is None or monitor.port is not None:
        return
    if not any(port.protocol is protocol for port in pool.ports):
        raise _invalid(
            "port",
            f"The pool has no {protocol.upper()} port that a {monitor.type} probe could ask by "
            "default; name one here, or probe by icmp.",
        )


def _check_codes(monitor: Monitor) -> None:
    for part in (monitor.expected_codes or "").split(","):
        first, _, last = part.partition("-")
        if last and last < first:
            raise _invalid(
                "expected_codes",
                f"The range {part} ends before it begins; write {last}-{first}.",
            )


def _check_ca(monitor: Monitor) -> None:
    if monitor.ca is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=monitor.ca)
    except (ssl.SSLError, ValueError) as error:
        raise _invalid("ca", f"TLS finds no certificates in PEM here: {error}.") from None


def _invalid(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, field=f"pool.monitor.{field}")
