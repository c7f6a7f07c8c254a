# SPDX-License-Identifier: Apache-2.0
"""What the openstack client asks of a plug-in: a name, its versions, options and a client."""

import argparse
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from osc_lib.exceptions import CommandError

from cloudlb.client.proxy import Proxy
from cloudlb.client.service import TrafficPlacement
from cloudlb.schemas.version import SERVICE_TYPE

API_NAME = "anycast"
API_VERSION_OPTION = "os_anycast_api_version"
DEFAULT_API_VERSION = "1"
API_VERSIONS = ("1",)
_EXAMPLE = "http://127.0.0.1:9890"
_LONGEST_LOOK = 10.0


def make_client(instance: Any) -> Proxy:
    """The proxy on the connection that the openstack client has opened.

    Raises CommandError for an endpoint that cannot be the API's.
    """
    connection = instance.sdk_connection
    _check_endpoint(connection.config)
    connection.add_service(TrafficPlacement(SERVICE_TYPE))
    with _impatient(connection.session):
        client: Proxy = connection.traffic_placement
    return client


def _check_endpoint(config: Any) -> None:
    """Without Keystone there is nothing but the endpoint to find the API by."""
    if config.config.get("auth_type") != "none":
        return
    url = config.get_endpoint(SERVICE_TYPE) or config.get_auth_args().get("endpoint")
    if not url:
        raise CommandError(f"OS_ENDPOINT is not set; name the address of the API, as {_EXAMPLE}.")
    if not re.match("https?://.", url):
        raise CommandError(f"The endpoint '{url}' is no URL; one is {_EXAMPLE}.")


@contextmanager
def _impatient(session: Any) -> Iterator[None]:
    """Give up soon while looking for the API: a server that gets TLS and speaks none is silent."""
    patience = session.timeout
    session.timeout = patience or _LONGEST_LOOK
    try:
        yield
    finally:
        session.timeout = patience


def build_option_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the plug-in's global options."""
    parser.add_argument(
        "--os-anycast-api-version",
        metavar="<anycast-api-version>",
        default=os.environ.get("OS_ANYCAST_API_VERSION", DEFAULT_API_VERSION),
        help="Version of the traffic-placement API, default: "
        f"{DEFAULT_API_VERSION} (Env: OS_ANYCAST_API_VERSION)",
    )
    return parser
