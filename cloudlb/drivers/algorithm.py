# SPDX-License-Identifier: Apache-2.0
"""From a pool's scheduler and its variants to what engines know."""

from cloudlb.model.dataplane import Algorithm
from cloudlb.model.pool import ConnectionCount, Pool, RotationOrder, Scheduler

_SIMPLE = {
    Scheduler.ROUND_ROBIN: Algorithm.ROUND_ROBIN,
    Scheduler.SOURCE_HASH: Algorithm.SOURCE_HASH,
    Scheduler.FLOW_HASH: Algorithm.FLOW_HASH,
    Scheduler.MAGLEV: Algorithm.MAGLEV,
}
_ORDERED = {
    RotationOrder.INTERLEAVED: Algorithm.WRR_INTERLEAVED,
    RotationOrder.LVS: Algorithm.WRR_LVS,
    RotationOrder.SMOOTH: Algorithm.WRR_SMOOTH,
}
_COUNTED = {
    (Scheduler.LEAST_CONNECTIONS, ConnectionCount.ACTIVE): Algorithm.LC_ACTIVE,
    (Scheduler.LEAST_CONNECTIONS, ConnectionCount.LVS): Algorithm.LC_LVS,
    (Scheduler.WEIGHTED_LEAST_CONNECTIONS, ConnectionCount.ACTIVE): Algorithm.WLC_ACTIVE,
    (Scheduler.WEIGHTED_LEAST_CONNECTIONS, ConnectionCount.LVS): Algorithm.WLC_LVS,
}


def algorithm_of(pool: Pool) -> Algorithm:
    """The algorithm of a pool; variants of other schedulers than its own do not matter."""
    if pool.scheduler in _SIMPLE:
        return _SIMPLE[pool.scheduler]
    if pool.scheduler is Scheduler.WEIGHTED_ROUND_ROBIN:
        return _ORDERED[pool.rotation_order]
    return _COUNTED[pool.scheduler, pool.connection_count]
