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


def test_a_host_that_fails_ends_the_waiting(cloud: Control) -> None:
    pool = cloud.pool()
    cloud.all_work()
    failing = cloud.agents["d1"]
    timer = _soon(lambda: failing.work(state=RealizationState.FAILING, reason="no"))
    answer = cloud.patch(f"/v1/pools/{pool['id']}?wait=30", {"pool": {"name": "x"}})
    timer.join()
    assert answer.status_code == 202


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
    path = f"/v1/pools/{pool['id']}?wait=1"
    with ThreadPoolExecutor(6) as threads:
        names = [f"name{n}" for n in range(6)]
        answers = list(threads.map(lambda n: cloud.patch(path, {"pool": {"name": n}}), names))
    assert [answer.status_code for answer in answers] == [202] * 6
    refused = [answer for answer in answers if answer.headers.get("retry-after") == "1"]
    assert len(refused) == 2
