# SPDX-License-Identifier: Apache-2.0
"""``/v1/drivers``."""

from cloudlb.api import views
from cloudlb.api.environment import Environment
from cloudlb.api.operation import Answer, Call, operation
from cloudlb.schemas import driver as schema


class Drivers:
    """The data-plane drivers that are installed, with what each can do."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment

    @operation("List data-plane drivers", {200: schema.LIST}, "driver:list")
    def on_get(self, _call: Call) -> Answer:
        """All of them."""
        drivers = sorted(self.environment.drivers.items())
        return Answer(200, {"drivers": [views.driver(name, driver) for name, driver in drivers]})
