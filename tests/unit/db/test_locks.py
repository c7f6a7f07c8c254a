# SPDX-License-Identifier: Apache-2.0
"""What a transaction has locked, and what it had not thought of."""

from uuid import UUID

import pytest

from cloudlb.db.locks import Held
from cloudlb.db.models import HostRow
from cloudlb.db.session import Raced

ROW = HostRow(name="c1")
HELD = Held({}, frozenset({"c1", "gone"}), {"c1": ROW})


def test_hosts_that_exist_are_given_and_others_are_not_missed() -> None:
    assert HELD.hosts({"gone", "c1"}) == {"c1": ROW}


def test_a_host_that_was_not_looked_for_makes_the_transaction_begin_anew() -> None:
    with pytest.raises(Raced, match="c2"):
        HELD.hosts({"c1", "c2"})


def test_a_pool_that_was_not_looked_for_does_too() -> None:
    HELD.check(())
    with pytest.raises(Raced, match=str(UUID(int=5))):
        HELD.check({UUID(int=5)})
