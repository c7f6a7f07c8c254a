# SPDX-License-Identifier: Apache-2.0
"""Connections of a pool, and where a packet goes, asked through the API."""

from typing import Any

import pytest

from tests.functional.control import Control

PACKET = "client=198.51.100.9&client_port=40000&port=80"


def _flow(member: str, port: int) -> dict[str, Any]:
    return {
        "client": "198.51.100.9",
        "client_port": port,
        "port": {"protocol": "tcp", "port": 80},
        "member_id": member,
        "state": "established",
        "idle": 0.5,
    }


def test_connections_have_the_names_of_their_members(cloud: Control) -> None:
    pool = cloud.pool(members=[{"server": "web1"}])
    (member,) = pool["members"]
    asked: list[dict[str, Any]] = []
    flows = [_flow(member["id"], 1), _flow(member["id"], 2)]
    cloud.agents["d1"].answers["flows"] = lambda args: asked.append(args) or flows
    answer = cloud.get(f"/v1/pools/{pool['id']}/flows?limit=7").json
    assert asked == [{"pool_id": pool["id"], "limit": 7}]
    assert [(f["client_port"], f["member_name"], f["director"]) for f in answer["flows"]] == [
        (1, "web1", "d1"),
        (2, "web1", "d1"),
    ]
    assert answer["missing"] == []


def test_a_director_that_does_not_answer_is_named(cloud: Control) -> None:
    pool = cloud.pool()
    assert cloud.get(f"/v1/pools/{pool['id']}/flows").json == {"flows": [], "missing": ["d1"]}


def test_an_explanation_names_the_member_and_its_host(cloud: Control) -> None:
    pool = cloud.pool(members=[{"server": "web1"}])
    (member,) = pool["members"]
    asked: list[dict[str, Any]] = []
    said = {"member_id": member["id"], "reason": "turn", "detail": "it has the next turn"}
    cloud.agents["d1"].answers["explain"] = lambda args: asked.append(args) or said
    answer = cloud.get(f"/v1/pools/{pool['id']}/explain?{PACKET}&protocol=udp")
    assert asked == [
        {
            "pool_id": pool["id"],
            "client": "198.51.100.9",
            "client_port": 40000,
            "port": {"protocol": "udp", "port": 80},
        }
    ]
    assert answer.json["explanation"] == {
        "pool_id": pool["id"],
        "director": "d1",
        "member_id": member["id"],
        "member_name": "web1",
        "host": "c1",
        "reason": "turn",
        "detail": "it has the next turn",
    }


def test_a_packet_to_no_one_is_explained_too(cloud: Control) -> None:
    pool = cloud.pool()
    said = {"member_id": None, "reason": "no_member", "detail": "no member takes new connections"}
    cloud.agents["d1"].answers["explain"] = lambda _args: said
    found = cloud.get(f"/v1/pools/{pool['id']}/explain?{PACKET}").json["explanation"]
    assert (found["member_id"], found["host"], found["reason"]) == (None, None, "no_member")


@pytest.mark.parametrize("name", ["client", "client_port", "port"])
def test_a_packet_that_is_not_complete_is_refused(cloud: Control, name: str) -> None:
    pool = cloud.pool()
    rest = "&".join(part for part in PACKET.split("&") if not part.startswith(f"{name}="))
    answer = cloud.get(f"/v1/pools/{pool['id']}/explain?{rest}")
    assert answer.status_code == 400
    assert answer.json["errors"][0]["field"] == name


def test_without_its_director_nothing_can_be_explained(cloud: Control) -> None:
    pool = cloud.pool()
    answer = cloud.get(f"/v1/pools/{pool['id']}/explain?{PACKET}")
    assert answer.status_code == 503
    assert "The director d1 gives no answer" in answer.json["detail"]
