# SPDX-License-Identifier: Apache-2.0
"""What the openstack client asks of a plug-in: a name, its versions, options and a client."""

import argparse
import os
from typing import Any

from cloudlb.client.proxy import Proxy
from cloudlb.client.service import TrafficPlacement
from cloudlb.schemas.version import SERVICE_TYPE

API_NAME = "anycast"
API_VERSION_OPTION = "os_anycast_api_version"
DEFAULT_API_VERSION = "1"
API_VERSIONS = ("1",)


def make_client(instance: Any) -> Proxy:
    """The proxy on the connection that the openstack client has opened."""
    connection = instance.sdk_connection
    connection.add_service(TrafficPlacement(SERVICE_TYPE))
    client: Proxy = connection.traffic_placement
    return client


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
