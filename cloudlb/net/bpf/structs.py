# SPDX-License-Identifier: Apache-2.0
"""Structures that libbpf and the kernel are called with."""

import ctypes
from ctypes import c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p


class MapInfo(ctypes.Structure):
    """The head of struct bpf_map_info (linux/bpf.h), as far as Linux 6.1 has it."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("key_size", c_uint32),
        ("value_size", c_uint32),
        ("max_entries", c_uint32),
        ("map_flags", c_uint32),
        ("name", ctypes.c_char * 16),
        ("ifindex", c_uint32),
        ("btf_vmlinux_value_type_id", c_uint32),
        ("netns_dev", c_uint64),
        ("netns_ino", c_uint64),
        ("btf_id", c_uint32),
        ("btf_key_type_id", c_uint32),
        ("btf_value_type_id", c_uint32),
    )


class ProgramInfo(ctypes.Structure):
    """The head of struct bpf_prog_info (linux/bpf.h)."""

    _fields_ = (("type", c_uint32), ("id", c_uint32))


class LinkInfo(ctypes.Structure):
    """The head of struct bpf_link_info (linux/bpf.h), for XDP."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("prog_id", c_uint32),
        ("pad", c_uint32),
        ("ifindex", c_uint32),
    )


class LinkOptions(ctypes.Structure):
    """The head of struct bpf_link_create_opts (bpf/bpf.h)."""

    _fields_ = (("sz", c_size_t), ("flags", c_uint32))


class TestRunOptions(ctypes.Structure):
    """struct bpf_test_run_opts (bpf/bpf.h, libbpf 1.0)."""

    _fields_ = (
        ("sz", c_size_t),
        ("data_in", c_char_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_char_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    )
