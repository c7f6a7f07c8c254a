# SPDX-License-Identifier: Apache-2.0
"""MariaDB and PostgreSQL: the tables, a pool's life, and transactions that meet each other."""

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, create_engine, text

from cloudlb.conductor.conductor import Conductor
from cloudlb.db import hosts, locks, pools, schema, session
from cloudlb.db.session import Session, Sessions
from cloudlb.model.errors import Conflict
from cloudlb.model.pool import Health
from tests.functional.control import NETWORK, Agent, Control, nic, server
from tests.functional.servers import MARIADB, POSTGRESQL, Server, on_servers

ROUNDS = 12


@pytest.fixture
def sessions(cloud: Control) -> Sessions:
    """Sessions on the database of a cloud."""
    return cloud.conductor._sessions


@pytest.fixture
def other(database: str, cloud: Control) -> Iterator[Conductor]:
    """A second conductor, with connections of its own."""
    made = session.connect(database)
    yield Conductor(made, cloud.rung.append, cloud.clock)
    made.close()


@pytest.mark.parametrize("name", [MARIADB, POSTGRESQL])
def test_an_empty_database_gets_the_tables_of_the_models(
    name: str, request: pytest.FixtureRequest
) -> None:
    empty: Server = request.getfixturevalue(name)
    sessions = session.connect(empty.create("empty"))
    assert schema.version(sessions) is None
    schema.sync(sessions)
    schema.sync(sessions)
    assert schema.version(sessions) == schema.newest()
    assert schema.differences(sessions) == []
    if name == MARIADB:
        collations = "SELECT DISTINCT table_collation FROM information_schema.tables WHERE "
        collations += "table_schema = DATABASE() AND table_name <> 'alembic_version'"
        with sessions.read() as reader:
            assert list(reader.scalars(text(collations))) == ["utf8mb4_bin"]
    sessions.close()


@on_servers
class TestLife:
    def test_a_pool_is_made_changed_realized_and_removed(self, cloud: Control) -> None:
        named = ["web3", "web1", "web2"]
        pool = cloud.pool(members=[{"server": name} for name in named])
        path = f"/v1/pools/{pool['id']}"
        assert [m["server_name"] for m in pool["members"]] == named
        cloud.all_work()
        shown = cloud.get(path).json["pool"]
        assert shown["status"]["realized"]["state"] == "yes"
        assert shown["created_at"] == pool["created_at"], "times keep their fractions"
        cloud.agents["d1"].probed(*((m["id"], Health.ONLINE) for m in pool["members"]))
        body = {"members": [{"server": "web1", "weight": 0, "port": None}, {"server": "web2"}]}
        listed = cloud.put(f"{path}/members", body).json["members"]
        assert [(m["server_name"], m["weight"], m["removing"]) for m in listed] == [
            ("web3", 1, True),
            ("web1", 0, False),
            ("web2", 1, False),
        ]
        (view,) = cloud.agents["d1"].pull().pools
        assert [m.removing for m in view.members] == [True, False, False]
        cloud.agents["d1"].work(draining=(UUID(pool["members"][0]["id"]),))
        cloud.all_work()
        assert len(cloud.get(path).json["pool"]["members"]) == 2
        assert cloud.delete(path).status_code == 202
        cloud.all_work()
        assert cloud.get(path).status_code == 404
        assert cloud.pool()["address"] == pool["address"]

    def test_an_address_is_in_quarantine_until_its_host_has_let_go(self, cloud: Control) -> None:
        pool = cloud.pool(members=[{"server": "web1"}])
        cloud.all_work()
        cloud.delete(f"/v1/pools/{pool['id']}")
        for _ in range(4):
            cloud.clock.pass_seconds(10)
            cloud.agents["d1"].work()
        cloud.conductor.sweep()
        assert cloud.get(f"/v1/pools/{pool['id']}").status_code == 404
        assert cloud.pool()["address"] != pool["address"]
        cloud.agents["c1"].work()
        assert cloud.pool(name="again")["address"] == pool["address"]

    def test_an_address_is_claimed_once(self, cloud: Control, sessions: Sessions) -> None:
        pool = cloud.pool()

        def again(writer: Session) -> None:
            known = pools.get(writer, UUID(pool["id"]), None)
            assert known
            pools.add(writer, replace(known[0].pool, id=uuid4()), 0.0)

        with pytest.raises(Conflict):
            sessions.write(again)
        assert [p["id"] for p in cloud.get("/v1/pools").json["pools"]] == [pool["id"]]

    def test_names_are_compared_exactly_and_hold_any_character(self, cloud: Control) -> None:
        made = {name: cloud.pool(name=name)["id"] for name in ("web", "Web", "wéb", "🙂")}
        for name, key in made.items():
            found = cloud.get(f"/v1/pools?name={quote(name)}").json["pools"]
            assert [(p["id"], p["name"]) for p in found] == [(key, name)]
        assert cloud.get(f"/v1/hosts/{quote('🙂')}").status_code == 404
        assert cloud.get("/v1/hosts/C1").status_code == 404
        network = {"name": NETWORK.upper(), "prefixes": ["192.0.2.0/24"]}
        assert cloud.post("/v1/networks", {"network": network}).status_code == 201

    def test_pages_and_filters(self, cloud: Control) -> None:
        made = []
        for n in range(5):
            cloud.clock.pass_seconds(0.001)
            made.append(cloud.pool(name=f"p{n}")["id"])
        first = cloud.get("/v1/pools?limit=3").json["pools"]
        rest = cloud.get(f"/v1/pools?limit=3&marker={first[-1]['id']}").json["pools"]
        assert [p["id"] for p in (*first, *rest)] == made
        assert [p["id"] for p in cloud.get("/v1/pools?name=p3").json["pools"]] == [made[3]]

    def test_a_server_that_moves_and_a_host_that_is_forgotten(self, cloud: Control) -> None:
        pool = cloud.pool(members=[{"server": "web1"}])
        cloud.all_work()
        cloud.agents["c2"].found(server("web1", nic(1, NETWORK, "192.0.2.11")))
        cloud.agents["c1"].lost("web1")
        cloud.all_work()
        shown = cloud.get(f"/v1/pools/{pool['id']}").json["pool"]
        assert shown["members"][0]["host"] == "c2"
        assert shown["status"]["realized"]["state"] == "yes"
        cloud.clock.pass_seconds(40)
        cloud.agents["d1"].report()
        assert cloud.delete("/v1/hosts/c2").status_code == 204
        shown = cloud.get(f"/v1/pools/{pool['id']}").json["pool"]
        assert shown["members"][0]["placement"] == "waiting"


def _together(*works: Callable[[], None]) -> None:
    """Run these at the same time; raise what one of them raises."""
    failures: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    if failures:
        raise failures[0]


@on_servers
def test_a_deadlock_is_repeated_until_both_have_written(sessions: Sessions) -> None:
    meet = threading.Barrier(2, timeout=30)
    attempts: list[str] = []

    def crosswise(first: str, second: str) -> None:
        is_first = True

        def work(writer: Session) -> None:
            nonlocal is_first
            attempts.append(first)
            for name in (first, second):
                hosts.lock(writer, [name])[name].engine += first
                writer.flush()
                if name == first and is_first:
                    is_first = False
                    meet.wait()

        sessions.write(work)

    _together(lambda: crosswise("c1", "c2"), lambda: crosswise("c2", "c1"))
    assert len(attempts) == 3, "one of the two was sent back once"
    with sessions.read() as reader:
        written = reader.execute(text("SELECT engine FROM hosts WHERE name IN ('c1', 'c2')"))
        for engine in written.scalars():
            assert sorted(engine.removeprefix("memory")) == ["1", "2", "c", "c"]


def _use(cloud: Control, made: list[dict[str, Any]]) -> None:
    """A user changes two pools in turns, and names members in the other order."""
    for n in range(ROUNDS):
        path = f"/v1/pools/{made[n % 2]['id']}"
        body = {"members": [{"server": s, "weight": n % 2} for s in ("web3", "web1")]}
        assert cloud.patch(f"{path}/members", body).status_code in (200, 202)
        assert cloud.patch(path, {"pool": {"name": f"n{n}"}}).status_code == 202


def _move(agent: Agent) -> None:
    """A server comes and goes that is a member of both."""
    everything = agent.servers
    rest = {name: one for name, one in everything.items() if name != "web1"}
    for n in range(ROUNDS):
        agent.servers = everything if n % 2 else rest
        agent.tell_inventory()


def _judge(agent: Agent, made: list[dict[str, Any]]) -> None:
    """A director probes the members of both, and does what it is told."""
    for n in range(ROUNDS):
        health = Health.ONLINE if n % 2 else Health.OFFLINE
        agent.probed(*((m["id"], health) for pool in made for m in pool["members"]))
        agent.work()


def _rule(cloud: Control, network_id: str) -> None:
    """An administrator changes the network."""
    for n in range(ROUNDS):
        body = {"network": {"vip_range": [f"192.0.2.128/{28 + n % 2}"]}}
        assert cloud.patch(f"/v1/networks/{network_id}", body).status_code == 200


@on_servers
def test_writes_that_meet_do_not_deadlock(
    cloud: Control, other: Conductor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cloudlb.db.session")
    made = [cloud.pool(name=n, members=[{"server": "web1"}, {"server": "web3"}]) for n in "ab"]
    cloud.all_work()
    c1, d1 = cloud.agents["c1"], cloud.agents["d1"]
    c1.conductor = d1.conductor = other
    _together(
        lambda: _use(cloud, made),
        lambda: _move(c1),
        lambda: _judge(d1, made),
        lambda: _rule(cloud, made[0]["network_id"]),
    )
    assert "DBDeadlock" not in caplog.text
    cloud.all_work()
    for pool in cloud.get("/v1/pools").json["pools"]:
        assert pool["status"]["realized"]["state"] == "yes"


@on_servers
def test_who_reads_again_sees_what_was_committed_meanwhile(
    sessions: Sessions, database: str
) -> None:
    elsewhere = session.connect(database)

    def rename(writer: Session) -> None:
        writer.execute(text("UPDATE hosts SET engine = 'new' WHERE name = 'c1'"))

    def work(reader: Session) -> str | None:
        query = text("SELECT engine FROM hosts WHERE name = 'c1'")
        assert reader.scalar(query) == "memory"
        elsewhere.write(rename)
        return reader.scalar(query)

    assert sessions.write(work) == "new"
    elsewhere.close()


@pytest.fixture
def overtaken(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], list[int]]:
    """Has something else happen before a transaction takes its locks, the first time."""
    take = locks.take

    def overtake(event: Callable[[], None]) -> list[int]:
        taken: list[int] = []

        def late(*args: Any, **kwargs: Any) -> locks.Held:
            taken.append(1)
            if len(taken) == 1:
                with monkeypatch.context() as usual:
                    usual.setattr(locks, "take", take)
                    event()
            return take(*args, **kwargs)

        monkeypatch.setattr(locks, "take", late)
        return taken

    return overtake


@on_servers
def test_an_inventory_that_was_overtaken_by_a_newer_one_says_nothing(
    cloud: Control,
    other: Conductor,
    overtaken: Callable[[Callable[[], None]], list[int]],
) -> None:
    c1 = cloud.agents["c1"]
    pool = cloud.pool(members=[{"server": "web1"}])

    def newer() -> None:
        c1.conductor = other
        c1.lost("web1", "web9")

    taken = overtaken(newer)
    c1.found(server("web9", nic(9, NETWORK)))
    assert len(taken) == 2
    member = cloud.get(f"/v1/pools/{pool['id']}").json["pool"]["members"][0]
    assert member["placement"] == "waiting"
    answer = cloud.post(f"/v1/pools/{pool['id']}/members", {"member": {"server": "web9"}})
    assert answer.status_code == 400


@on_servers
def test_a_server_that_becomes_a_member_while_it_moves_is_followed(
    cloud: Control, other: Conductor, overtaken: Callable[[Callable[[], None]], list[int]]
) -> None:
    pool = cloud.pool()
    cloud.all_work()

    def join() -> None:
        path = f"/v1/pools/{pool['id']}/members"
        assert cloud.post(path, {"member": {"server": "web1"}}).status_code == 202

    taken = overtaken(join)
    cloud.agents["c2"].found(server("web1", nic(1, NETWORK, "192.0.2.11")))
    assert len(taken) == 2
    (view,) = cloud.agents["c2"].pull().pools
    assert [m.placement.host for m in view.members if m.placement] == ["c2"]


_OTHERS = {
    MARIADB: "SELECT id FROM information_schema.processlist WHERE db = DATABASE() "
    "AND id <> CONNECTION_ID()",
    POSTGRESQL: "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()",
}


def _cut_others(connection: Connection) -> None:
    """End all other connections, as a server's restart does."""
    is_postgresql = connection.dialect.name == POSTGRESQL
    found = list(connection.execute(text(_OTHERS[POSTGRESQL if is_postgresql else MARIADB])))
    assert found
    for (number,) in found:
        if not is_postgresql:
            connection.execute(text(f"KILL CONNECTION {number}"))


@on_servers
def test_connections_that_the_server_has_cut_are_replaced(cloud: Control, database: str) -> None:
    pool = cloud.pool()
    engine = create_engine(database)
    for request in (
        lambda: cloud.get(f"/v1/pools/{pool['id']}"),
        lambda: cloud.patch(f"/v1/pools/{pool['id']}", {"pool": {"name": "x"}}),
    ):
        with engine.connect() as connection:
            _cut_others(connection)
        assert request().status_code in (200, 202)
    engine.dispose()


@on_servers
def test_pools_of_a_network_do_not_wait_for_each_other(
    cloud: Control, sessions: Sessions, database: str
) -> None:
    first, second = cloud.pool(name="a"), cloud.pool(name="b")
    elsewhere = session.connect(database)

    def lock(pool: dict[str, Any]) -> Callable[[Session], object]:
        return lambda writer: pools.get(writer, UUID(pool["id"]), None, lock=True)

    def work(writer: Session) -> None:
        lock(first)(writer)
        elsewhere.write(lock(second))

    _together(lambda: sessions.write(work))
    elsewhere.close()


@on_servers
def test_a_network_does_not_change_while_a_pool_is_made_in_it(
    cloud: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = cloud.get("/v1/networks").json["networks"][0]["id"]
    body = {"network": {"vip_range": ["192.0.2.144/28"]}}
    answers: list[int] = []
    narrowing = threading.Thread(
        target=lambda: answers.append(cloud.patch(f"/v1/networks/{network}", body).status_code)
    )
    look = hosts.everything

    def look_late(*args: Any) -> list[Any]:
        """The network has been read; who may change it now has half a second."""
        monkeypatch.setattr(hosts, "everything", look)
        narrowing.start()
        narrowing.join(0.5)
        return look(*args)

    monkeypatch.setattr(hosts, "everything", look_late)
    pool = cloud.pool(address="192.0.2.133")
    narrowing.join(10)
    assert answers == [409]
    assert cloud.get(f"/v1/pools/{pool['id']}").json["pool"]["address"] == "192.0.2.133"
