# SPDX-License-Identifier: Apache-2.0
"""How many statements a request takes: independent of the number of members."""

from collections.abc import Iterator

import pytest
from sqlalchemy import event

from tests.functional.control import NETWORK, Control, nic, server
from tests.functional.servers import on_all


class Count:
    """Statements since the last look."""

    def __init__(self) -> None:
        self.statements: list[str] = []

    def take(self) -> int:
        count = len([s for s in self.statements if not s.startswith("PRAGMA") and s != "BEGIN"])
        self.statements.clear()
        return count


@pytest.fixture
def count(control: Control) -> Iterator[Count]:
    """Counts what the database is asked."""
    made = Count()
    engine = control.conductor._sessions.engine

    def note(_conn: object, _cursor: object, statement: str, *_rest: object) -> None:
        made.statements.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield made
    event.remove(engine, "before_cursor_execute", note)


@on_all
@pytest.mark.parametrize("members", [1, 100])
def test_statements_do_not_grow_with_members(
    cloud: Control, count: Count, members: int, database: str
) -> None:
    lock = 1 if database.startswith("mysql") else 0  # it cannot lock one table of a join
    servers = [server(f"many{n}", nic(100 + n, NETWORK)) for n in range(members)]
    cloud.agents["c1"].found(*servers)
    specs = [{"server": one.name} for one in servers]
    count.take()
    pool = cloud.pool(members=specs)
    assert count.take() <= 10, "with the look-up of the network by the test"
    cloud.get(f"/v1/pools/{pool['id']}")
    assert count.take() <= 3
    cloud.get("/v1/pools")
    assert count.take() <= 3
    cloud.get(f"/v1/pools/{pool['id']}/members")
    assert count.take() <= 2
    body = {"members": [{**spec, "weight": 0} for spec in specs]}
    assert cloud.put(f"/v1/pools/{pool['id']}/members", body).status_code == 202
    assert count.take() <= 8 + lock
    assert cloud.put(f"/v1/pools/{pool['id']}/members", {"members": []}).status_code == 202
    assert count.take() <= 8 + lock


def test_a_heartbeat_takes_two_statements(cloud: Control, count: Count) -> None:
    cloud.pool()
    cloud.agents["d1"].work()
    count.take()
    cloud.clock.pass_seconds(1)
    cloud.agents["d1"].report()
    assert count.take() <= 2


def test_a_pull_of_nothing_new_takes_two_statements(cloud: Control, count: Count) -> None:
    generation = cloud.agents["d1"].pull().generation
    cloud.clock.pass_seconds(1)
    count.take()
    assert cloud.conductor.get_desired("d1", generation) is None
    assert count.take() <= 2
