# SPDX-License-Identifier: Apache-2.0
"""The records of the maps are laid out as the programs' structures are."""

import re
import subprocess
from ipaddress import ip_address
from pathlib import Path

import pytest

from cloudlb.net.bpf import build, layout

CODECS = {
    "port": layout.PORT,
    "vip_key": layout.VIP_KEY,
    "service_key": layout.SERVICE_KEY,
    "pool": layout.POOL,
    "member": layout.MEMBER,
    "delivery_key": layout.DELIVERY_KEY,
    "learned_key": layout.LEARNED_KEY,
    "sighting": layout.SIGHTING,
    "flow_key": layout.FLOW_KEY,
    "flow": layout.FLOW,
    "fragmented_key": layout.FRAGMENTED_KEY,
    "fragmented": layout.FRAGMENTED,
    "held": layout.HELD,
    "traffic": layout.TRAFFIC,
    "connections": layout.CONNECTIONS,
    "settings": layout.SETTINGS,
    "ticket": layout.TICKET,
}
STATEMENT = re.compile(r"\bstruct (\w+) \{(.*?)\n\}", re.S)


@pytest.fixture(scope="module")
def structures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[str, int]]]:
    """Fields and their offsets by structure, as the compiler lays them out; "" is the end."""
    header = (build.SOURCES / "records.h").read_text()
    found = {name: _fields(body) for name, body in STATEMENT.findall(header)}
    lines = [
        f"OFFSET {name} {field or '-'} "
        + (f"__builtin_offsetof(struct {name}, {field})" if field else f"sizeof(struct {name})")
        for name, fields in found.items()
        for field in [*fields, ""]
    ]
    return _computed(lines, tmp_path_factory.mktemp("layout"))


def _fields(body: str) -> list[str]:
    """Arrays of words are so many fields, those of octets one."""
    body = re.sub(r"/\*.*?\*/", "", body, flags=re.S)
    found = re.findall(r"(\w+) (\w+)(?:\[(\w+)\])?;", body)
    return [
        field
        for kind, name, count in found
        if name != "pad"
        for field in (
            [f"{name}[{n}]" for n in range(int(count))]
            if count and kind in ("__u32", "__u64")
            else [name]
        )
    ]


def _computed(lines: list[str], directory: Path) -> dict[str, list[tuple[str, int]]]:
    """The values of constant expressions, through clang's assembler output for BPF."""
    source = directory / "offsets.c"
    values = ", ".join(line.split(" ", 3)[3] for line in lines)
    include = f'#include "{build.SOURCES / "maps.h"}"'
    source.write_text(f"{include}\nconst unsigned long long offsets[] = {{{values}}};\n")
    arch = next(Path("/usr/include").glob("*-linux-gnu"))
    text = subprocess.run(
        ["clang", "-O2", "-target", "bpf", f"-I{arch}", "-S", "-o", "-", str(source)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    table = text[text.index("\noffsets:") :]
    numbers = [int(n) for n in re.findall(r"\.quad\s+(\d+)", table)]
    offsets: dict[str, list[tuple[str, int]]] = {}
    for line, number in zip(lines, numbers, strict=False):
        _, name, field, _ = line.split(" ", 3)
        offsets.setdefault(name, []).append((field, number))
    return offsets


@pytest.mark.parametrize("name", CODECS)
def test_a_record_is_as_long_as_the_programs_structure(
    structures: dict[str, list[tuple[str, int]]], name: str
) -> None:
    assert structures[name][-1] == ("-", CODECS[name].size)


@pytest.mark.parametrize("name", sorted(CODECS))
def test_a_records_fields_stand_where_the_programs_have_them(
    structures: dict[str, list[tuple[str, int]]], name: str
) -> None:
    codec = CODECS[name]
    fields = [offset for field, offset in structures[name] if field != "-"]
    zero = codec.unpack(bytes(codec.size))
    assert len(zero) == len(fields)
    for index, offset in enumerate(fields):
        marked = codec.unpack(bytes(offset) + b"\xff" + bytes(codec.size - offset - 1))
        assert [i for i, (a, b) in enumerate(zip(zero, marked, strict=True)) if a != b] == [index]


@pytest.mark.parametrize("text", ["192.0.2.1", "0.0.0.0", "2001:db8::1", "::1"])  # noqa: S104
def test_addresses_are_unpacked_as_they_were_packed(text: str) -> None:
    address = ip_address(text)
    assert len(layout.pack_address(address)) == 16
    assert layout.unpack_address(layout.pack_address(address)) == address


def test_an_ipv4_address_is_packed_as_mapped() -> None:
    assert layout.pack_address(ip_address("192.0.2.1")) == ip_address("::ffff:192.0.2.1").packed
