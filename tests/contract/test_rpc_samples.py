# SPDX-License-Identifier: Apache-2.0
"""The bodies of messages between conductor and agents, compared with samples kept in golden/.

A sample that has to change breaks agents of another version: raise the RPC version, keep the old
samples, and see that both are still decoded. To write the samples of a new version:
CLOUDLB_GOLDEN=write pytest tests/contract/test_rpc_samples.py, then read the difference.
"""

import dataclasses
import json
import os
import types
import typing
from enum import Enum
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from cloudlb.model.ether import Mac
from cloudlb.model.host import Interface, Inventory, Owner, Role, Server, Uplink
from cloudlb.model.network import Network
from cloudlb.model.plain import decode, encode
from cloudlb.model.pool import (
    ClientAddress,
    ConnectionCount,
    DownAction,
    Failover,
    Forwarding,
    Health,
    Member,
    Monitor,
    MonitorType,
    Persistence,
    Placement,
    Pool,
    Port,
    Protocol,
    RotationOrder,
    Scheduler,
    Timeouts,
    Translation,
)
from cloudlb.model.snapshot import (
    Claim,
    HealthReport,
    Key,
    MemberView,
    Peer,
    PoolView,
    Realization,
    RealizationState,
    Report,
    Snapshot,
)
from cloudlb.rpc.transport import VERSION

GOLDEN = Path(__file__).parent / "golden" / f"rpc-{VERSION}"


def _id(number: int) -> UUID:
    return UUID(f"00000000-0000-4000-8000-{number:012x}")


def _mac(number: int) -> Mac:
    return Mac(f"52:54:00:00:00:{number:02x}")


LAN = Network(
    id=_id(1),
    project_id="p1",
    name="lan",
    number=7,
    prefixes=(ip_network("192.0.2.0/24"), ip_network("2001:db8::/64")),
    vip_range=(ip_network("192.0.2.128/25"),),
    generation=2,
)
WEB = Pool(
    id=_id(2),
    project_id="p1",
    network_id=LAN.id,
    name="web",
    address=ip_address("192.0.2.200"),
    ports=(Port(Protocol.TCP, 80), Port(Protocol.UDP, 53)),
    data_plane="dr",
    scheduler=Scheduler.ROUND_ROBIN,
    directors=("d1", "d2"),
    failover=Failover.STAY,
    virtual_router=9,
    monitor=Monitor(MonitorType.TCP, interval=2.0, timeout=1.5, rise=3, fall=4, port=8080),
    panic_threshold=50,
    drain_timeout=60,
    admin_state_up=False,
    description="the shop",
    generation=5,
)
MAIL = Pool(
    id=_id(3),
    project_id="p2",
    network_id=LAN.id,
    name="mail",
    address=ip_address("2001:db8::200"),
    ports=(Port(Protocol.TCP, 25),),
    data_plane="dr",
    scheduler=Scheduler.SOURCE_HASH,
    directors=("d1",),
    monitor=Monitor(MonitorType.ICMP),
)
MONITORS = (
    Monitor(MonitorType.UDP, port=53, payload="00ff", accept_silence=True),
    Monitor(
        MonitorType.HTTP,
        method="HEAD",
        path="/up",
        expected_codes="200-204",
        host="www.example.org",
        http_version="1.0",
    ),
    Monitor(MonitorType.HTTPS, ca="-----BEGIN CERTIFICATE-----", sni="www.example.org"),
)
OTHERS = tuple(
    dataclasses.replace(
        MAIL,
        id=_id(40 + number),
        name=scheduler.value,
        address=MAIL.address + 1 + number,
        scheduler=scheduler,
        rotation_order=tuple(RotationOrder)[number % len(RotationOrder)],
        connection_count=tuple(ConnectionCount)[number % len(ConnectionCount)],
        persistence=Persistence(600 + number, 64) if number % 2 else None,
        monitor=MONITORS[number % len(MONITORS)],
        forwarding=(None, *Forwarding)[number % 4],
        entry_host=(None, "c1")[number % 2],
        translation=(None, *Translation)[number % 4],
        masquerade=number % 4 > 1,
        client_address=(None, *ClientAddress)[number % 2],
        down_action=(*DownAction,)[number % 3],
        timeouts=Timeouts(established=3600 + number) if number % 3 else None,
    )
    for number, scheduler in enumerate(Scheduler)
)
MEMBERS = (
    MemberView(
        Member(_id(11), "p1", WEB.id, _id(21), "web1", weight=5, generation=3),
        Placement("c1", _mac(1), "tap1", (ip_address("192.0.2.11"), ip_address("fe80::1"))),
    ),
    MemberView(
        Member(_id(12), "p1", WEB.id, _id(22), admin_state_up=False),
        Placement("c2", _mac(2), running=False),
        removing=True,
        removed_for=12.5,
    ),
    MemberView(Member(_id(13), "p1", WEB.id, _id(23), port=8080, backup=True), None),
    MemberView(
        Member(
            _id(14),
            "p1",
            WEB.id,
            _id(24),
            remote=ip_address("198.51.100.14"),
            prepared=True,
        ),
        None,
    ),
)
UPLINKS = (
    Uplink("lan", "br0", _mac(0xFF), (ip_address("192.0.2.1"),), (ip_address("192.0.2.254"),)),
)
SAMPLES: dict[str, Any] = {
    "snapshot": Snapshot(
        "d1",
        42,
        (
            PoolView(WEB, LAN, MEMBERS),
            PoolView(MAIL, LAN, removing=True),
            *(PoolView(pool, LAN) for pool in OTHERS),
        ),
        (LAN,),
        (Claim(7, WEB.address), Claim(7, MAIL.address)),
        (
            Peer("d1", ip_address("198.51.100.1"), UPLINKS),
            Peer("d2"),
        ),
        (Key(3, "ab" * 32, 400.5), Key(4, "cd" * 32)),
    ),
    "snapshot-empty": Snapshot("c9", 1),
    "report": Report(
        42,
        (
            Realization(
                WEB.id,
                42,
                RealizationState.REALIZED,
                draining=(_id(12),),
                revision=9,
                announcing=True,
            ),
            Realization(MAIL.id, 42, RealizationState.GONE),
            Realization(_id(4), 41, RealizationState.FAILING, "The kernel has no room."),
        ),
        Inventory(
            revision=1_800_000_000_000_000,
            roles=(Role.DIRECTOR, Role.COMPUTE),
            engine="ebpf",
            uplinks=UPLINKS,
            management=ip_address("198.51.100.1"),
            servers=(
                Server(
                    _id(21),
                    "web1",
                    Owner.LIBVIRT,
                    True,
                    "p1",
                    (Interface(_mac(1), "tap1", "lan", (ip_address("192.0.2.11"),)),),
                ),
                Server(_id(22), "instance-00000001", Owner.NOVA, False, "p1"),
                Server(_id(24), "theirs", Owner.FOREIGN, True),
            ),
        ),
        (
            HealthReport(_id(11), Health.ONLINE, "answers", 1_800_000_000_000_001),
            HealthReport(_id(12), Health.OFFLINE, "its server is switched off", 2),
            HealthReport(_id(13), Health.UNKNOWN, "", 3),
        ),
    ),
    "report-heartbeat": Report(42),
}

each = pytest.mark.parametrize("name", SAMPLES)


def _kept(name: str) -> str:
    return (GOLDEN / f"{name}.json").read_text()


@each
def test_messages_are_encoded_as_the_samples(name: str) -> None:
    encoded = json.dumps(encode(SAMPLES[name]), indent=1) + "\n"
    if os.environ.get("CLOUDLB_GOLDEN") == "write":
        GOLDEN.mkdir(parents=True, exist_ok=True)
        (GOLDEN / f"{name}.json").write_text(encoded)
    assert encoded == _kept(name)


@each
def test_samples_are_decoded_to_the_messages(name: str) -> None:
    assert decode(type(SAMPLES[name]), json.loads(_kept(name))) == SAMPLES[name]


def test_a_removal_without_its_age_was_just_now() -> None:
    data = json.loads(_kept("snapshot"))
    for member in data["pools"][0]["members"]:
        del member["removed_for"]
    assert {m.removed_for for m in decode(Snapshot, data).pools[0].members} == {0.0}


def test_there_is_a_message_for_every_sample() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(SAMPLES)


def _kinds(kind: Any, found: set[Any]) -> set[Any]:
    """All dataclasses and enums that a message may hold."""
    if typing.get_origin(kind) in (tuple, types.UnionType, typing.Union):
        for part in typing.get_args(kind):
            _kinds(part, found)
    elif isinstance(kind, type) and issubclass(kind, Enum):
        found.update(kind)
    elif dataclasses.is_dataclass(kind) and kind is not Mac and kind not in found:
        found.add(kind)
        for part in typing.get_type_hints(kind).values():
            _kinds(part, found)
    return found


def _held(value: Any, found: set[Any]) -> set[Any]:
    if isinstance(value, tuple):
        for item in value:
            _held(item, found)
    elif isinstance(value, Enum):
        found.add(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, Mac):
        found.add(type(value))
        for field in dataclasses.fields(value):
            _held(getattr(value, field.name), found)
    return found


@pytest.mark.parametrize("kind", [Snapshot, Report])
def test_the_samples_hold_every_kind_and_every_word_of_an_enumeration(kind: type) -> None:
    assert _kinds(kind, set()) <= _held(tuple(SAMPLES.values()), set())
