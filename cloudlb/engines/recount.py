# SPDX-License-Identifier: Apache-2.0
"""Members' counts of connections, made of the connections that are remembered."""

from collections import Counter

from cloudlb.model.dataplane import FlowState
from cloudlb.net.bpf.layout import Connections, ModeNumber
from cloudlb.net.bpf.programs import Maps

_STATES = tuple(FlowState)
_ACTIVE = (FlowState.ESTABLISHED, FlowState.UDP)


def count_anew(maps: Maps) -> None:
    """Have all members' counts agree with the connections, for which programs of two versions had
    two counts. What begins or ends at this moment may be missed.
    """
    active: Counter[int] = Counter()
    inactive: Counter[int] = Counter()
    flows = (pair[1] for pair in maps.flows.items())
    for flow in flows:
        if flow.mode != ModeNumber.MASQUERADE:
            (active if _STATES[flow.state] in _ACTIVE else inactive)[flow.member] += 1
    for number, counted in maps.connections.items():
        found = active[number.value], inactive[number.value]
        there = Connections(counted.total, *found, counted.doubted)
        if there != counted:
            maps.connections[number] = there
