# SPDX-License-Identifier: Apache-2.0
"""Taking everything of cloudlb's out of a host's kernel, whichever version put it there."""

import shutil
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from cloudlb.engines import ipvs
from cloudlb.engines.base import asking_for
from cloudlb.engines.ipvs import IpvsEngine
from cloudlb.net.bpf.libbpf import Libbpf
from cloudlb.net.bpf.programs import express_links, pinned
from cloudlb.net.tc import Direction, Filters
from cloudlb.net.xdp import ExpressLinks


def remove(bpffs: Path, objects: Path) -> Iterator[str]:
    """Remove XDP programs and filters, then what is pinned below ``bpffs``, then the virtual
    servers that a file in ``objects`` names; names each thing that was removed.

    These go first: nothing is attached to a program that is not pinned any more. Raises
    `EngineError` when the kernel refuses; to be called again then.
    """
    yield from _links(bpffs)
    yield from _filters()
    yield from _pins(bpffs)
    yield from _virtual_servers(objects)


def _virtual_servers(objects: Path) -> Iterator[str]:
    """Those of LVS; on a host that never had any its module is not asked for."""
    if not ipvs.has_planes(objects):
        return
    engine = IpvsEngine(objects)
    for pool_id, plane in engine.observe().items():
        engine.apply(pool_id, None)
        yield f"virtual servers of {plane.address}"
    engine.close()


def _pins(bpffs: Path) -> Iterator[str]:
    with asking_for(f"to list {bpffs}"):
        pins = pinned(bpffs)
    for path in pins:
        with asking_for(f"to remove {path}"):
            shutil.rmtree(path)
        yield str(path)
    with suppress(OSError):  # it is missing, is a mount point, or holds what is not ours
        bpffs.rmdir()


def _links(bpffs: Path) -> Iterator[str]:
    links = ExpressLinks(Libbpf(), express_links(bpffs))
    with asking_for(f"to list XDP programs below {bpffs}"):
        carrying = sorted(links.marked())
    for index in carrying:
        with asking_for(f"to free interface {index}"):
            links.detach(index)
        yield f"{_interface(index)}: XDP program"


def _filters() -> Iterator[str]:
    with closing(Filters()) as filters:
        with asking_for("to list filters"):
            carrying = sorted(filters.marked())
        for index in carrying:
            names = [name for d in Direction if (name := filters.attached(index, d))]
            with asking_for(f"to free interface {index}"):
                filters.detach(index)
            yield f"{_interface(index)}: filters {', '.join(names)}"


def _interface(index: int) -> str:
    try:
        return f"interface {socket.if_indextoname(index)}"
    except OSError:  # gone meanwhile
        return f"interface {index}"
