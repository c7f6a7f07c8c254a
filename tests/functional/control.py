# SPDX-License-Identifier: Apache-2.0
"""The control plane in one process, with agents that are made by hand."""

import json
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any
from uuid import NAMESPACE_DNS, UUID, uuid5

from falcon.testing import Result, TestClient

from cloudlb.conductor.conductor import Conductor
from cloudlb.model.errors import Unavailable
from cloudlb.model.ether import Mac
from cloudlb.model.host import Interface, Inventory, Owner, Role, Server, Uplink
from cloudlb.model.snapshot import (
    HealthReport,
    PoolView,
    Realization,
    RealizationState,
    Report,
    Snapshot,
)

NETWORK = "net1"


class Clock:
    """Seconds since the epoch that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += seconds


def server_id(name: str) -> UUID:
    return uuid5(NAMESPACE_DNS, name)


def nic(number: int, network: str = NETWORK, *addresses: str) -> Interface:
    return Interface(
        mac=Mac(f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}"),
        tap=f"tap{number}",
        network=network,
        addresses=tuple(map(ip_address, addresses)),
    )


def server(name: str, *nics: Interface, project: str = "default", on: bool = True) -> Server:
    return Server(server_id(name), name, Owner.LIBVIRT, on, project, nics)


@dataclass
class Agent:
    """Says to the conductor what a test wants to be said."""

    conductor: Conductor
    name: str
    roles: tuple[Role, ...]
    address: str
    servers: dict[str, Server] = field(default_factory=dict)
    management: str = ""
    gateways: tuple[str, ...] = ()
    generation: int = 0
    revision: int = 0
    snapshot: Snapshot | None = None
    counters: dict[str, Any] | None = None
    answers: dict[str, Any] = field(default_factory=dict)

    def found(self, *servers: Server) -> None:
        """An inventory with these servers added."""
        self.servers |= {one.name: one for one in servers}
        self.tell_inventory()

    def lost(self, *names: str) -> None:
        for name in names:
            del self.servers[name]
        self.tell_inventory()

    def tell_inventory(self) -> None:
        self.revision += 1
        own, hops = (ip_address(self.address),), tuple(map(ip_address, self.gateways))
        uplink = Uplink(NETWORK, "eth0", Mac("52:54:00:ff:00:01"), own, hops)
        inventory = Inventory(
            self.revision,
            self.roles,
            "memory",
            (uplink,),
            tuple(self.servers.values()),
            ip_address(self.management) if self.management else None,
        )
        self.report(inventory=inventory)

    def report(self, **parts: Any) -> None:
        self.conductor.report(self.name, Report(self.generation, **parts))

    def pull(self) -> Snapshot:
        new = self.conductor.get_desired(self.name, self.generation)
        if new is not None:
            self.snapshot, self.generation = new, new.generation
        assert self.snapshot is not None
        return self.snapshot

    def work(self, **change: Any) -> None:
        """Pull, and report everything as done; ``change`` overrides parts of the words."""
        words = [self._word(view) for view in self.pull().pools]
        self.report(realizations=tuple(replace(word, **change) for word in words))

    def _word(self, view: PoolView) -> Realization:
        state = RealizationState.GONE if view.removing else RealizationState.REALIZED
        return Realization(view.pool.id, view.generation, state)

    def probed(self, *words: tuple[str, Any]) -> None:
        """Health of members by id."""
        self.revision += 1
        self.report(
            health=tuple(HealthReport(UUID(m), h, "probe", self.revision) for m, h in words)
        )


class Control:
    """The API as its users see it, and the conductor as agents do."""

    def __init__(self, app: Any, conductor: Conductor, clock: Clock, rung: list[Any]) -> None:
        # a function, since falcon looks at the signature, which WebOb's middleware hides
        self._client = TestClient(lambda env, start: app(env, start))  # noqa: PLW0108
        self.conductor = conductor
        self.clock = clock
        self.rung = rung
        self.agents: dict[str, Agent] = {}

    def call(
        self, method: str, path: str, body: Any = None, peer: str = "127.0.0.1", **headers: str
    ) -> Result:
        """A request, by default from loopback; ``headers`` with underscores for dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            named.setdefault("Content-Type", "application/json")
        text = body if isinstance(body, str | bytes) or body is None else json.dumps(body)
        return self._client.simulate_request(
            method, path, body=text, headers=named, remote_addr=peer
        )

    def get(self, path: str, **headers: str) -> Result:
        return self.call("GET", path, **headers)

    def post(self, path: str, body: Any, **headers: str) -> Result:
        return self.call("POST", path, body, **headers)

    def put(self, path: str, body: Any, **headers: str) -> Result:
        return self.call("PUT", path, body, **headers)

    def patch(self, path: str, body: Any, **headers: str) -> Result:
        return self.call("PATCH", path, body, **headers)

    def delete(self, path: str, **headers: str) -> Result:
        return self.call("DELETE", path, **headers)

    def agent(self, name: str, *roles: str, address: str = "192.0.2.1") -> Agent:
        made = Agent(self.conductor, name, tuple(map(Role, roles)), address)
        self.agents[name] = made
        made.tell_inventory()
        return made

    def ask(self, host: str, question: str, args: dict[str, Any]) -> Any:
        """What the API asks agents: what a test has given."""
        agent = self.agents[host]
        if question in agent.answers:
            return agent.answers[question](args)
        if agent.counters is None:
            raise Unavailable(f"{host} does not answer.")
        return agent.counters

    def all_work(self) -> None:
        """Every agent does what is wanted of it, and what is wanted because of that."""
        for _ in range(3):
            for agent in self.agents.values():
                agent.work()

    def pool(self, **spec: Any) -> dict[str, Any]:
        """A new pool in the network of the tests."""
        network = self.get(f"/v1/networks?name={NETWORK}").json["networks"][0]
        base = {
            "network_id": network["id"],
            "name": "web",
            "ports": [{"protocol": "tcp", "port": 80}],
        }
        answer = self.post("/v1/pools", {"pool": base | spec})
        assert answer.status_code == 202, answer.text
        pool: dict[str, Any] = answer.json["pool"]
        return pool
