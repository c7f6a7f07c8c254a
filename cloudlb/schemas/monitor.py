# SPDX-License-Identifier: Apache-2.0
"""The monitor in bodies of pools."""

from cloudlb.model.pool import MonitorType
from cloudlb.schemas.fields import PORT, Schema, body, described

_SECONDS: Schema = {"type": "number", "minimum": 0.1, "maximum": 3600, "default": 1.0}
_CODES = "[1-5][0-9]{2}(-[1-5][0-9]{2})?"
_NAME = r"([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}"
METHODS = ("GET", "HEAD", "OPTIONS")
HTTP_VERSIONS = ("1.0", "1.1")

MONITOR: Schema = {
    **body(
        {
            "type": {"type": "string", "enum": [t.value for t in MonitorType]},
            "interval": described(_SECONDS, "Seconds between two probes."),
            "timeout": described(
                _SECONDS, "Seconds within which a probe must be answered; at most the interval."
            ),
            "rise": {"type": "integer", "minimum": 1, "maximum": 100, "default": 2},
            "fall": {
                "type": "integer",
                "minimum": 1,
                "maximum": 100,
                "default": 3,
                "description": "Misses in a row that take a member out, so within "
                "interval × fall + timeout seconds.",
            },
            "port": {
                **PORT,
                "type": ["integer", "null"],
                "default": None,
                "description": "Port to probe, by default the pool's first one of the probe's "
                "protocol; none with icmp.",
            },
            "payload": {
                "type": ["string", "null"],
                "pattern": r"^([0-9a-fA-F]{2})*$(?!\n)",
                "maxLength": 1024,
                "default": None,
                "description": "Of udp: what the datagram carries, in hexadecimal; default: "
                "nothing.",
            },
            "accept_silence": {
                "type": ["boolean", "null"],
                "default": None,
                "description": "Of udp: a member that does not answer the datagram, and does not "
                "refuse it, is alive if it answers an ICMP echo request; default: false.",
            },
            "method": {
                "type": ["string", "null"],
                "enum": [*METHODS, None],
                "default": None,
                "description": "Of http and https: the request's method; default: GET.",
            },
            "path": {
                "type": ["string", "null"],
                "pattern": r"^/[!-~]*$(?!\n)",
                "maxLength": 1024,
                "default": None,
                "description": "Of http and https: what is asked for; default: /.",
            },
            "expected_codes": {
                "type": ["string", "null"],
                "pattern": rf"^{_CODES}(,{_CODES})*$(?!\n)",
                "maxLength": 255,
                "default": None,
                "description": "Of http and https: the status of a good answer, as 200, 200,202 "
                "or 200-204; default: 200.",
            },
            "host": {
                "type": ["string", "null"],
                "pattern": rf"^({_NAME}|\[[0-9a-fA-F:.]+\])(:[0-9]{{1,5}})?$(?!\n)",
                "maxLength": 255,
                "default": None,
                "description": "Of http and https: the Host header, with its port if it has one; "
                "default: the address that is asked.",
            },
            "http_version": {
                "type": ["string", "null"],
                "enum": [*HTTP_VERSIONS, None],
                "default": None,
                "description": "Of http and https; default: 1.1. With 1.0 the request has a Host "
                "header only if host is given.",
            },
            "ca": {
                "type": ["string", "null"],
                "maxLength": 65536,
                "pattern": r"^[\n\r -~]*$",
                "default": None,
                "description": "Of https: certificates (PEM) that the members' go back to; "
                "default: none, and members' certificates are not looked at.",
            },
            "sni": {
                "type": ["string", "null"],
                "pattern": rf"^{_NAME}$(?!\n)",
                "maxLength": 253,
                "default": None,
                "description": "Of https: the name that TLS asks for, and that certificates must "
                "have if there is a ca; default: the name in host, or the address that is asked.",
            },
        },
        required=("type",),
    ),
    "type": ["object", "null"],
    "default": None,
    "description": "Probes of the members; null for none.",
}
