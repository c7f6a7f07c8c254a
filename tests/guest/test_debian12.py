# SPDX-License-Identifier: Apache-2.0
"""The programs on Debian 12's kernel, Linux 6.1: loaded, attached through clsact, with traffic."""

import shlex
import sys

from tests.guest.machine import Machine

TEST_SECONDS = 600
"""Four times what it takes under TCG on a machine with nothing else to do."""
PACKET_TESTS = (
    "test_answers.py",
    "test_attached.py::test_a_segment_on_the_uplink_comes_back_for_the_member",
    "test_attached.py::test_attaching_again_changes_nothing",
    "test_attached.py::test_detaching_takes_our_filters_and_leaves_those_of_others",
    "test_attached.py::test_the_programs_forward_after_the_engine_has_closed",
    "test_flows.py::test_a_connection_is_forgotten_after_the_time_of_its_state[closing]",
    "test_forwarding.py",
    "test_guard_arp.py",
    "test_guard_nd.py",
    "test_round_robin.py::test_connections_arriving_on_two_cpus_at_once_are_shared_equally",
    "test_source_hash.py::test_clients_go_where_the_reference_says",
)
"""All programs and both schedulers; mostly modules that load once, as that takes 3 s under TCG."""


def run_tests(guest: Machine, *tests: str) -> None:
    """Run tests in the guest; a test that is skipped there has failed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--require"]
    outcome = guest.run(shlex.join([*command, *tests]), TEST_SECONDS)
    assert outcome.status == 0, str(outcome)


def test_the_guests_kernel_is_debian_12s(guest: Machine) -> None:
    release = guest.run("uname -r", 10).output.strip()
    assert release.startswith("6.1.")
    assert release.endswith("-cloud-amd64")


def test_the_programs_do_with_packets_what_they_do_on_newer_kernels(guest: Machine) -> None:
    run_tests(guest, *(f"tests/packet/{test}" for test in PACKET_TESTS))


def test_connections_by_direct_routing_reach_their_members(guest: Machine) -> None:
    run_tests(guest, "tests/guest/inside/direct_routing.py")
