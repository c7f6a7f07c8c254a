# SPDX-License-Identifier: Apache-2.0
"""How openstacksdk finds the API: by its service type in the catalog, and by its versions.

>>> connection.add_service(TrafficPlacement(SERVICE_TYPE))
>>> connection.traffic_placement.pools()
"""

from openstack.service_description import ServiceDescription

from cloudlb.client.proxy import Proxy


class TrafficPlacement(ServiceDescription[Proxy]):
    """Service description for `openstack.connection.Connection.add_service`."""

    supported_versions = {"1": Proxy}  # noqa: RUF012 -- declared so by the base class
