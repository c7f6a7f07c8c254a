# SPDX-License-Identifier: Apache-2.0
"""Who serves when guests are found dead: backup members, or in panic all."""

from typing import Any

import pytest

from cloudlb.lab.lab import Lab
from cloudlb.lab.traffic import Load
from tests.lab.control import TCP_MONITOR, Cloud, url, wait_until

pytestmark = pytest.mark.requirement("L13")


def served(lab: Lab, pool: dict[str, Any], count: int = 6) -> set[str]:
    """The guests that answer requests."""
    return set(Load.count(lab, url(pool), count)["servers"])


def reason(cloud: Cloud, pool: dict[str, Any]) -> str:
    """What the pool says of its health."""
    return str(cloud.show(pool)["status"]["health"]["reason"])


def release(lab: Lab, name: str, pool: dict[str, Any]) -> None:
    """Take the pool's address from a guest: its probes fail."""
    lab.guest(name).run(["ip", "address", "del", f"{pool['address']}/32", "dev", "eth0"])


def are(cloud: Cloud, pool: dict[str, Any], health: str, *names: str) -> bool:
    known = cloud.members(pool)
    return all(known[name]["health"] == health for name in names)


def test_a_backup_serves_while_no_other_member_is_alive(lab: Lab, cloud: Cloud) -> None:
    members = [{"server": "vm1"}, {"server": "vm3", "backup": True}]
    pool = cloud.pool(["vm1", "vm3"], members=members, monitor=TCP_MONITOR)
    wait_until("both are online", lambda: are(cloud, pool, "online", "vm1", "vm3"))
    wait_until("the first serves alone", lambda: served(lab, pool) == {"vm1"})
    release(lab, "vm1", pool)
    wait_until("the backup serves alone", lambda: served(lab, pool) == {"vm3"})
    wait_until("the pool says so", lambda: "backup" in reason(cloud, pool))
    cloud.hold("vm1", pool["address"])
    wait_until("the first is back", lambda: are(cloud, pool, "online", "vm1"))
    wait_until("it serves alone", lambda: served(lab, pool) == {"vm1"})


def test_in_panic_probes_are_not_believed(lab: Lab, cloud: Cloud) -> None:
    """Probes of a port that nobody has are wrong about guests that serve well."""
    monitor = TCP_MONITOR | {"port": 9}
    pool = cloud.pool(["vm1", "vm3"], monitor=monitor)
    wait_until("nobody serves", lambda: served(lab, pool, 1) == set())
    wait_until("both are offline", lambda: are(cloud, pool, "offline", "vm1", "vm3"))
    cloud.change(pool, "PATCH", "", {"pool": {"panic_threshold": 50}})
    assert served(lab, pool) == {"vm1", "vm3"}
    assert "more than 50 %" in reason(cloud, pool)
