# SPDX-License-Identifier: Apache-2.0
"""``?wait=``: answered when the hosts have it, within bounds."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from cloudlb.model.snapshot import RealizationState
from tests.functional.control import Control


def _soon(work: Callable[[], object]) -> threading.Timer:
    timer = threading.Timer(0.1, work)
    timer.start()
    return timer


def test_a_write_is_answered_with_200_when_it_is_realized(cloud: Control) -> None:
    pool = cloud.pool(members=[{"server": "web1"}])
    cloud.all_work()
    timer = _soon(cloud.all_work)
    answer = cloud.patch(f"/v1/pools/{pool['id']}?wait=20", {"pool": {"name": "x"}})
    timer.join()
    assert answer.status_code == 200
    assert answer.json["pool"]["status"]["realized"]["state"] == "yes"


def test_a_write_that_is_not_realized_in_time_is_answered_with_202(cloud: Control) -> None:
    pool = cloud.pool()
    answer = cloud.patch(f"/v1/pools/{pool['id']}?wait=0.1", {"pool": {"name": "x"}})
    assert answer.status_code == 202
    assert "retry-after" not in answer.headers


def test_a_write_that_changes_nothing_is_answered_as_what_was_written_before(
    cloud: Control,
) -> None:
    """A client that repeats its request after a 202 hears the truth."""
    pool = cloud.pool(members=[{"server": "web1"}])
    path, change = f"/v1/pools/{pool['id']}", {"pool": {"name": "x"}}
    member = f"{path}/members/{pool['members'][0]['id']}"
    answers = [cloud.patch(path, change).status_code for _ in range(2)]
    answers.append(cloud.patch(f"{path}?wait=0.1", change).status_code)
    answers.append(cloud.patch(member, {"member": {"weight": 1}}).status_code)
    assert answers == [202, 202, 202, 202]
    cloud.all_work()
    assert cloud.patch(path, change).status_code == 200
    assert cloud.patch(member, {"member": {"weight": 1}}).status_code == 200


def test_all_hosts_of_the_pool_are_waited_for(cloud: Control) -> None:
    pool = cloud.pool(members=[{"server": "web1"}, {"server": "web3"}])
    cloud.all_work()
    path = f"/v1/pools/{pool['id']}"

    def all_but_one_work() -> None:
        cloud.agents["d1"].work()
        cloud.agents["c1"].work()

    timer = _soon(all_but_one_work)
    answer = cloud.patch(f"{path}?wait=1", {"pool": {"name": "x"}})
    timer.join()
    assert answer.status_code == 202
    realized = answer.json["pool"]["status"]["realized"]
    assert (realized["state"], realized["reason"][:10]) == ("pending", "c2 pending")
    assert "d1" not in realized["reason"]

    timer = _soon(cloud.agents["c2"].work)
    answer = cloud.patch(f"{path}?wait=20", {"pool": {"name": "x"}})
    timer.join()
    assert (answer.status_code, answer.json["pool"]["status"]["realized"]["state"]) == (200, "yes")


def test_a_host_that_fails_ends_the_waiting_with_its_reason(cloud: Control) -> None:
    pool = cloud.pool(members=[{"server": "web1"}])
    cloud.all_work()
    failing = cloud.agents["c1"]
    timer = _soon(lambda: failing.work(state=RealizationState.FAILING, reason="no room"))
    path = f"/v1/pools/{pool['id']}?wait=30"
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(cloud.patch, path, {"pool": {"name": "x"}}).result(timeout=20)
    timer.join()
    assert answer.status_code == 202
    assert "retry-after" not in answer.headers
    realized = answer.json["pool"]["status"]["realized"]
    assert realized["state"] == "failing"
    assert realized["reason"].startswith("c1 fails since ")
    assert realized["reason"].endswith(": no room")


def test_a_new_member_is_waited_for_on_its_host_and_on_the_director(cloud: Control) -> None:
    pool = cloud.pool()
    cloud.all_work()
    path = f"/v1/pools/{pool['id']}/members"
    timer = _soon(cloud.agents["d1"].work)
    answer = cloud.post(f"{path}?wait=1", {"member": {"server": "web1"}})
    timer.join()
    assert answer.status_code == 202
    timer = _soon(cloud.all_work)
    answer = cloud.post(f"{path}?wait=20", {"member": {"server": "web3"}})
    timer.join()
    assert answer.status_code == 200


def test_a_deletion_is_answered_with_204_when_nothing_is_left(cloud: Control) -> None:
    pool = cloud.pool(members=[{"server": "web1"}])
    cloud.all_work()
    member = f"/v1/pools/{pool['id']}/members/{pool['members'][0]['id']}"
    for path in (member, f"/v1/pools/{pool['id']}"):
        timer = _soon(cloud.all_work)
        assert cloud.delete(f"{path}?wait=20").status_code == 204
        timer.join()


def test_at_most_half_of_the_threads_wait(cloud: Control) -> None:
    pool = cloud.pool()
    path = f"/v1/pools/{pool['id']}?wait=4"  # all six have come by then
    with ThreadPoolExecutor(6) as threads:
        names = [f"name{n}" for n in range(6)]
        answers = list(threads.map(lambda n: cloud.patch(path, {"pool": {"name": n}}), names))
    assert [answer.status_code for answer in answers] == [202] * 6
    refused = [answer for answer in answers if answer.headers.get("retry-after") == "1"]
    assert len(refused) == 2


def test_questions_to_agents_leave_half_of_the_threads_to_others(cloud: Control) -> None:
    pool = cloud.pool()
    stats = f"/v1/pools/{pool['id']}/stats"
    asked, answer = threading.Semaphore(0), threading.Event()

    def ask(*_question: object) -> dict[str, object]:
        asked.release()
        assert answer.wait(20)
        return {}

    cloud.ask = ask
    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(cloud.get, stats) for _ in range(4)]
        assert all(asked.acquire(timeout=20) for _ in asking)
        refused = cloud.get(stats)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "ask again" in refused.json["detail"]
        late = cloud.patch(f"/v1/pools/{pool['id']}?wait=20", {"pool": {"name": "x"}})
        assert (late.status_code, late.headers["retry-after"]) == (202, "1")
        assert cloud.get(f"/v1/pools/{pool['id']}").status_code == 200
        answer.set()
    assert [each.result().status_code for each in asking] == [200] * 4
    assert cloud.get(stats).status_code == 200
