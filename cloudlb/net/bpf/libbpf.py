# SPDX-License-Identifier: Apache-2.0
"""libbpf 1.x through ctypes: objects, pins, map elements and test runs."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_int, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cloudlb.net.bpf.structs import LinkInfo, LinkOptions, MapInfo, ProgramInfo, TestRunOptions

Info = TypeVar("Info", bound=ctypes.Structure)

_PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "bpf_object__open_file": (c_void_p, (c_char_p, c_void_p)),
    "bpf_object__load": (c_int, (c_void_p,)),
    "bpf_object__close": (None, (c_void_p,)),
    "bpf_object__next_map": (c_void_p, (c_void_p, c_void_p)),
    "bpf_object__next_program": (c_void_p, (c_void_p, c_void_p)),
    "bpf_map__name": (c_char_p, (c_void_p,)),
    "bpf_map__set_pin_path": (c_int, (c_void_p, c_char_p)),
    "bpf_map__set_max_entries": (c_int, (c_void_p, c_uint32)),
    "bpf_map__is_internal": (ctypes.c_bool, (c_void_p,)),
    "bpf_map__type": (c_uint32, (c_void_p,)),
    "bpf_map__key_size": (c_uint32, (c_void_p,)),
    "bpf_map__value_size": (c_uint32, (c_void_p,)),
    "bpf_map__max_entries": (c_uint32, (c_void_p,)),
    "bpf_map__map_flags": (c_uint32, (c_void_p,)),
    "bpf_map__btf_key_type_id": (c_uint32, (c_void_p,)),
    "bpf_map__btf_value_type_id": (c_uint32, (c_void_p,)),
    "bpf_object__btf": (c_void_p, (c_void_p,)),
    "btf__load_from_kernel_by_id": (c_void_p, (c_uint32,)),
    "btf__raw_data": (c_void_p, (c_void_p, POINTER(c_uint32))),
    "btf__free": (None, (c_void_p,)),
    "bpf_program__name": (c_char_p, (c_void_p,)),
    "bpf_program__fd": (c_int, (c_void_p,)),
    "bpf_obj_pin": (c_int, (c_int, c_char_p)),
    "bpf_obj_get": (c_int, (c_char_p,)),
    "bpf_obj_get_info_by_fd": (c_int, (c_int, c_void_p, POINTER(c_uint32))),
    "bpf_map_update_elem": (c_int, (c_int, c_char_p, c_char_p, c_uint64)),
    "bpf_map_lookup_elem": (c_int, (c_int, c_char_p, c_void_p)),
    "bpf_map_delete_elem": (c_int, (c_int, c_char_p)),
    "bpf_map_get_next_key": (c_int, (c_int, c_char_p, c_void_p)),
    "bpf_map_update_batch": (
        c_int,
        (c_int, c_char_p, c_char_p, POINTER(c_uint32), c_void_p),
    ),
    "bpf_map_lookup_batch": (
        c_int,
        (c_int, c_void_p, c_void_p, c_void_p, c_void_p, POINTER(c_uint32), c_void_p),
    ),
    "bpf_link_create": (c_int, (c_int, c_int, c_int, c_void_p)),
    "bpf_link_update": (c_int, (c_int, c_int, c_void_p)),
    "bpf_prog_test_run_opts": (c_int, (c_int, c_void_p)),
    "ring_buffer__new": (c_void_p, (c_int, c_void_p, c_void_p, c_void_p)),
    "ring_buffer__epoll_fd": (c_int, (c_void_p,)),
    "ring_buffer__consume": (c_int, (c_void_p,)),
    "ring_buffer__free": (None, (c_void_p,)),
    "libbpf_num_possible_cpus": (c_int, ()),
}

_SHAPE = {
    "kind": "bpf_map__type",
    "key_size": "bpf_map__key_size",
    "value_size": "bpf_map__value_size",
    "entries": "bpf_map__max_entries",
    "flags": "bpf_map__map_flags",
    "key_type": "bpf_map__btf_key_type_id",
    "value_type": "bpf_map__btf_value_type_id",
}
_NO_EXIST = 1  # linux/bpf.h
_BPF_XDP = 37  # likewise, enum bpf_attach_type
_XDP_FLAGS_DRV_MODE = 4  # linux/if_link.h: by the driver, or not at all


def _load() -> ctypes.CDLL:
    library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


@dataclass(frozen=True, slots=True)
class XdpLink:
    """The kernel's number of the program that a link runs; ``index`` is 0 when the interface is
    gone.
    """

    program: int
    index: int


@dataclass(frozen=True, slots=True)
class MapShape:
    """What a map is: ``kind`` and ``flags`` as in linux/bpf.h, and the numbers of the types of its
    keys and values in ``types``, which is BTF and empty where there are none.
    """

    kind: int
    key_size: int
    value_size: int
    entries: int
    flags: int
    key_type: int
    value_type: int
    types: bytes

    @property
    def outline(self) -> tuple[int, ...]:
        """All but the types."""
        return self.kind, self.key_size, self.value_size, self.entries, self.flags


class Libbpf:
    """The library; every method raises OSError with the kernel's errno."""

    def __init__(self) -> None:
        self._lib = _load()
        self.cpus: int = self._lib.libbpf_num_possible_cpus()

    @contextmanager
    def open_object(self, path: Path) -> Iterator[c_void_p]:
        """An object file, closed at the end; what was pinned of it stays."""
        handle = self._lib.bpf_object__open_file(str(path).encode(), None)
        if not handle:
            raise self._error("open", path)
        try:
            yield c_void_p(handle)
        finally:
            self._lib.bpf_object__close(handle)

    def prepare(self, handle: c_void_p, pins: Path, sizes: dict[str, int]) -> dict[str, MapShape]:
        """Have an object's maps be those pinned under ``pins``, to be made there when absent.

        ``sizes`` sets the number of entries of maps by name. Returns what they have to be.
        """
        types = self._raw(self._lib.bpf_object__btf(handle))
        shapes: dict[str, MapShape] = {}
        for bpf_map in self._each(self._lib.bpf_object__next_map, handle):
            if self._lib.bpf_map__is_internal(bpf_map):
                continue
            name = self._lib.bpf_map__name(bpf_map).decode()
            self._check(self._lib.bpf_map__set_pin_path(bpf_map, str(pins / name).encode()), name)
            if name in sizes:
                self._check(self._lib.bpf_map__set_max_entries(bpf_map, sizes[name]), name)
            numbers = {field: getattr(self._lib, f)(bpf_map) for field, f in _SHAPE.items()}
            shapes[name] = MapShape(**numbers, types=types if numbers["value_type"] else b"")
        return shapes

    def load(self, handle: c_void_p) -> dict[str, int]:
        """Load an object that was prepared. Returns the programs' file descriptors by name, valid
        until the object is closed.
        """
        self._check(self._lib.bpf_object__load(handle), "load")
        return {
            self._lib.bpf_program__name(p).decode(): self._lib.bpf_program__fd(p)
            for p in self._each(self._lib.bpf_object__next_program, handle)
        }

    def pin(self, fd: int, path: Path) -> None:
        """Keep what ``fd`` refers to under a path of a BPF file system."""
        self._check(self._lib.bpf_obj_pin(fd, str(path).encode()), path)

    def get(self, path: Path) -> int:
        """A file descriptor of what is pinned there."""
        return self._check(self._lib.bpf_obj_get(str(path).encode()), path)

    @contextmanager
    def opened(self, path: Path) -> Iterator[int]:
        """A file descriptor of what is pinned there, for a while."""
        fd = self.get(path)
        try:
            yield fd
        finally:
            os.close(fd)

    def map_shape(self, fd: int) -> tuple[int, int, int]:
        """Key size, value size and number of entries of a map."""
        info = self._info(fd, MapInfo())
        return info.key_size, info.value_size, info.max_entries

    def pinned_shape(self, path: Path) -> MapShape:
        """What the map that is pinned there is."""
        with self.opened(path) as fd:
            info = self._info(fd, MapInfo())
        return MapShape(
            kind=info.type,
            key_size=info.key_size,
            value_size=info.value_size,
            entries=info.max_entries,
            flags=info.map_flags,
            key_type=info.btf_key_type_id,
            value_type=info.btf_value_type_id,
            types=self._kernel_types(info.btf_id) if info.btf_value_type_id else b"",
        )

    def program_id(self, fd: int) -> int:
        """The kernel's number of a program."""
        number: int = self._info(fd, ProgramInfo()).id
        return number

    def create_xdp_link(self, program: int, index: int) -> int:
        """Run a program in the driver of an interface, as long as the link's file descriptor,
        which is returned, is open or pinned.
        """
        options = LinkOptions(sz=ctypes.sizeof(LinkOptions), flags=_XDP_FLAGS_DRV_MODE)
        result = self._lib.bpf_link_create(program, index, _BPF_XDP, byref(options))
        return self._check(result, f"XDP on interface {index}")

    def update_link(self, fd: int, program: int) -> None:
        """Have a link run another program."""
        self._check(self._lib.bpf_link_update(fd, program, None), "update_link")

    def xdp_link(self, fd: int) -> XdpLink:
        """What a link of an interface's driver is."""
        info = self._info(fd, LinkInfo())
        return XdpLink(info.prog_id, info.ifindex)

    def _info(self, fd: int, info: Info) -> Info:
        length = c_uint32(ctypes.sizeof(info))
        self._check(self._lib.bpf_obj_get_info_by_fd(fd, byref(info), byref(length)), "info")
        return info

    def _kernel_types(self, number: int) -> bytes:
        types = self._lib.btf__load_from_kernel_by_id(number)
        if not types:
            raise self._error("btf__load_from_kernel_by_id", number)
        try:
            return self._raw(types)
        finally:
            self._lib.btf__free(types)

    def _raw(self, types: int) -> bytes:
        length = c_uint32()
        return ctypes.string_at(self._lib.btf__raw_data(types, byref(length)), length.value)

    def update(self, fd: int, key: bytes, value: bytes) -> None:
        """Set an element."""
        self._check(self._lib.bpf_map_update_elem(fd, key, value, 0), "update")

    def add(self, fd: int, key: bytes, value: bytes) -> None:
        """Set an element that is not there yet."""
        self._check(self._lib.bpf_map_update_elem(fd, key, value, _NO_EXIST), "add")

    def update_batch(self, fd: int, keys: bytes, values: bytes, count: int) -> None:
        """Set ``count`` elements whose keys and values stand one after the other."""
        done = c_uint32(count)
        self._check(
            self._lib.bpf_map_update_batch(fd, keys, values, byref(done), None), "update_batch"
        )

    def lookup(self, fd: int, key: bytes, size: int) -> bytes | None:
        """An element's value of ``size`` octets, None when there is no such key."""
        value = ctypes.create_string_buffer(size)
        if self._lib.bpf_map_lookup_elem(fd, key, value):
            return None
        return value.raw

    def delete(self, fd: int, key: bytes) -> None:
        """Remove an element; its absence is no error."""
        if self._lib.bpf_map_delete_elem(fd, key) and ctypes.get_errno() != 2:
            raise self._error("delete", fd)

    def lookup_batch(
        self, fd: int, cursor: bytes | None, sizes: tuple[int, int], count: int
    ) -> tuple[bytes | None, bytes, bytes, int]:
        """The next elements behind ``cursor``: new cursor (None at the end), keys, values, count.

        Raises OSError with ENOSPC when ``count`` is smaller than a bucket of the hash.
        """
        following = ctypes.create_string_buffer(max(16, sizes[0]))
        keys = ctypes.create_string_buffer(sizes[0] * count)
        values = ctypes.create_string_buffer(sizes[1] * count)
        got = c_uint32(count)
        before = ctypes.create_string_buffer(cursor, len(cursor)) if cursor else None
        failed = self._lib.bpf_map_lookup_batch(
            fd, before, following, keys, values, byref(got), None
        )
        if failed and ctypes.get_errno() != 2:
            raise self._error("lookup_batch", fd)
        end = None if failed else following.raw
        return end, keys.raw, values.raw, got.value

    def test_run(
        self, fd: int, frame: bytes, context: bytes | None = None, repeat: int = 1
    ) -> tuple[int, bytes, int]:
        """Run a program on a frame: its return value, the frame after, ns for each run."""
        out = ctypes.create_string_buffer(len(frame) + 256)
        options = TestRunOptions(
            sz=ctypes.sizeof(TestRunOptions),
            data_in=frame,
            data_size_in=len(frame),
            data_out=ctypes.cast(out, c_void_p),
            data_size_out=len(out),
            ctx_in=context,
            ctx_size_in=len(context) if context else 0,
            repeat=repeat,
        )
        self._check(self._lib.bpf_prog_test_run_opts(fd, byref(options)), "test_run")
        return options.retval, out.raw[: options.data_size_out], options.duration

    def ring_new(self, fd: int, callback: Any) -> int:
        """A reader of a ring buffer; ``callback(context, data, size)`` gets each record."""
        ring: int | None = self._lib.ring_buffer__new(fd, callback, None, None)
        if not ring:
            raise self._error("ring_buffer__new", fd)
        return ring

    def ring_fd(self, ring: int) -> int:
        """What select can wait with for records."""
        return self._check(self._lib.ring_buffer__epoll_fd(ring), "ring")

    def ring_consume(self, ring: int) -> None:
        """Give the callback the records that there are, until it returns less than 0."""
        self._lib.ring_buffer__consume(ring)

    def ring_free(self, ring: int) -> None:
        """Give a reader back."""
        self._lib.ring_buffer__free(ring)

    def _each(self, following: Any, handle: c_void_p) -> Iterator[c_void_p]:
        item = following(handle, None)
        while item:
            yield c_void_p(item)
            item = following(handle, item)

    def _check(self, result: int, what: object) -> int:
        if result < 0:
            raise self._error("libbpf", what)
        return result

    def _error(self, call: str, what: object) -> OSError:
        number = ctypes.get_errno()
        return OSError(number, f"{os.strerror(number)} ({call})", str(what))
