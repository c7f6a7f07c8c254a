# SPDX-License-Identifier: Apache-2.0
"""Random changes of a pool of all guests."""

import random
from typing import Any

from tests.lab.control import Cloud
from tests.lab.pairs import ALL


def change_at_random(cloud: Cloud, pool: dict[str, Any], weights: list[int], times: int) -> None:
    """Change a pool of all guests so many times, without waiting for the hosts."""
    rng, present = random.Random(str(weights)), dict.fromkeys(ALL)
    for _ in range(times):
        _change_something(cloud, pool, present, rng, weights)


def _change_something(
    cloud: Cloud,
    pool: dict[str, Any],
    present: dict[str, None],
    rng: random.Random,
    weights: list[int],
) -> None:
    """Add, remove, re-weight or close a member."""
    members = f"/pools/{pool['id']}/members"
    name = rng.choice(ALL)
    if name not in present:
        answer = cloud.request("POST", members, {"member": {"server": name}})
        if answer[0] < 300:
            present[name] = None
        return
    member = next(
        m for m in cloud.show(pool)["members"] if m["server_name"] == name and not m["removing"]
    )
    change = rng.choice(["remove", "weight", "close"])
    if change == "remove":
        cloud.ok("DELETE", f"{members}/{member['id']}")
        del present[name]
    else:
        fields = (
            {"weight": rng.choice(weights)}
            if change == "weight"
            else {"admin_state_up": not member["admin_state_up"]}
        )
        cloud.ok("PATCH", f"{members}/{member['id']}", {"member": fields})
