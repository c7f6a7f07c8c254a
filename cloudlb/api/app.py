# SPDX-License-Identifier: Apache-2.0
"""The whole API on one page: its routes, and how an application is made of them."""

import threading
import time
from collections.abc import Callable
from typing import Any

import falcon
from oslo_config import cfg
from oslo_policy import policy
from stevedore import ExtensionManager

from cloudlb import policies
from cloudlb.api import discovery, forwarded, openapi, problems
from cloudlb.api.drivers import Drivers
from cloudlb.api.environment import Ask, Bell, Environment
from cloudlb.api.flows import PoolExplain, PoolFlows
from cloudlb.api.hosts import Hosts, OneHost
from cloudlb.api.members import Members, OneMember
from cloudlb.api.middleware import Identity, ResponseCheck
from cloudlb.api.networks import Networks, OneNetwork
from cloudlb.api.pools import OnePool, Pools, PoolStats, PoolStatus
from cloudlb.db.session import Sessions
from cloudlb.drivers.base import DataPlaneDriver

ROUTES: tuple[tuple[str, Callable[[Environment], Any]], ...] = (
    ("/", discovery.Root),
    ("/healthcheck", discovery.Health),
    ("/v1", discovery.Version),
    ("/v1/openapi.json", discovery.Document),
    ("/v1/networks", Networks),
    ("/v1/networks/{network_id}", OneNetwork),
    ("/v1/pools", Pools),
    ("/v1/pools/{pool_id}", OnePool),
    ("/v1/pools/{pool_id}/status", PoolStatus),
    ("/v1/pools/{pool_id}/stats", PoolStats),
    ("/v1/pools/{pool_id}/flows", PoolFlows),
    ("/v1/pools/{pool_id}/explain", PoolExplain),
    ("/v1/pools/{pool_id}/members", Members),
    ("/v1/pools/{pool_id}/members/{member_id}", OneMember),
    ("/v1/hosts", Hosts),
    ("/v1/hosts/{name}", OneHost),
    ("/v1/drivers", Drivers),
)


def create_app(
    conf: cfg.ConfigOpts,
    sessions: Sessions,
    bell: Bell,
    ask: Ask,
    clock: Callable[[], float] = time.time,
    check_responses: bool = False,
) -> forwarded.App:
    """The WSGI application.

    ``bell`` rings hosts after a commit, ``ask`` asks a host's agent. With ``check_responses``
    every response is compared with its schema, and a difference is an error.
    """
    environment = Environment(
        sessions=sessions,
        bell=bell,
        ask=ask,
        clock=clock,
        timer=time.monotonic,
        pause=time.sleep,
        enforcer=_enforcer(conf),
        drivers=_drivers(),
        host_down_time=conf.host_down_time,
        max_limit=conf.api.max_limit,
        waiting=threading.BoundedSemaphore(conf.api.threads // 2),
    )
    checks: list[Any] = [ResponseCheck()] if check_responses else []
    app = falcon.App(middleware=[Identity(), *checks])
    app.req_options.strip_url_path_trailing_slash = True
    problems.install(app)
    for path, resource in ROUTES:
        made = resource(environment)
        if isinstance(made, discovery.Document):
            made.content = openapi.document(ROUTES)
        if hasattr(made, "on_get"):
            # RFC 9110, 9.3.2: as GET; falcon leaves the body out and keeps its length
            made.on_head = made.on_get
        app.add_route(path, made)
    return forwarded.heeding(conf, app)


def _enforcer(conf: cfg.ConfigOpts) -> policy.Enforcer:
    enforcer = policy.Enforcer(conf)
    enforcer.register_defaults(policies.list_rules())
    enforcer.load_rules()
    return enforcer


def _drivers() -> dict[str, DataPlaneDriver]:
    found: ExtensionManager[DataPlaneDriver]
    found = ExtensionManager("cloudlb.dataplane", invoke_on_load=True)
    return {extension.name: extension.obj for extension in found if extension.obj is not None}
