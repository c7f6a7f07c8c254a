# SPDX-License-Identifier: Apache-2.0
"""The programs on Debian 12's kernel, Linux 6.1: loaded, attached through clsact, with traffic."""

import shlex
import sys

import pytest

from tests.guest.machine import Machine

TEST_SECONDS = 2400
"""Several times what it takes under TCG on a machine with nothing else to do."""
PROCESSES = ("-n", "2", "--dist", "loadfile")
"""One on each of the guest's processors."""
TOO_LONG = "test_guard_arp.py::test_a_guest_that_invents_addresses_takes_no_other_guests_place"
"""Makes thousands of frames, which takes two minutes by TCG."""
PACKET_TESTS = (
    "test_answers.py",
    "test_attached.py::test_a_segment_on_the_uplink_comes_back_for_the_member",
    "test_attached.py::test_detaching_takes_our_filters_and_leaves_those_of_others",
    "test_directors.py::test_the_master_answers_for_the_address",
    "test_sharing.py::test_a_connection_is_told_when_it_begins_and_when_its_state_changes[ipv4]",
    "test_sharing.py::test_a_packet_of_a_connection_that_is_not_known_goes_to_the_other_director",
    "test_director_nat.py::test_both_ends_see_what_they_know",
    "test_director_nat_parts.py::test_the_parts_of_a_datagram_are_translated_there_and_back",
    "test_edge_nat.py::test_the_guest_sees_its_own_address_and_the_client_the_pools",
    "test_edge_nat.py::test_of_datagrams_the_latest_use_counts",
    "test_edge_nat_parts.py",
    "test_errors.py::test_a_large_error_reaches_a_member_on_the_link",
    "test_errors.py::test_an_error_travels_through_the_tunnel_to_the_guest[6in4]",
    "test_flows.py::test_a_connection_is_forgotten_after_the_time_of_its_state[closing]",
    "test_forwarding.py",
    "test_guard_arp.py",
    "test_guard_nd.py",
    "test_parts.py::test_parts_in_any_order_reach_the_member_of_their_connection[tcp-ipv4]",
    "test_parts.py::test_parts_in_any_order_reach_a_guest_behind_edge_nat[udp-ipv4]",
    "test_round_robin.py::test_connections_arriving_on_two_cpus_at_once_are_shared_equally",
    "test_tunnel.py::test_a_segment_travels_inside_a_packet_to_the_members_own_address",
    "test_tunnel.py::test_the_tap_takes_off_what_the_director_has_put_on",
    "test_tunnel_gso.py",
    "test_tunnel_mss.py::test_a_member_asks_for_no_more_than_fits",
    "test_tunnel_mss.py::test_the_option_may_stand_at_any_place",
    "test_tunnel_size.py::test_a_client_is_told_how_large_its_packets_may_be",
    "test_source_hash.py::test_clients_go_where_the_reference_says",
    "test_succession.py::test_connections_of_all_modes_live_side_by_side[dr-edge_nat-tun-ipv6]",
    "test_schedulers.py::test_by_lvs_formula_connections_that_only_open_count_a_little",
    "test_persistence.py::test_clients_of_one_prefix_are_one",
)
"""All programs and kinds of schedulers; mostly modules that load once: that takes 3 s by TCG."""


def run_tests(guest: Machine, *arguments: str) -> None:
    """Run tests in the guest; a test that is skipped there has failed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--require"]
    outcome = guest.run(shlex.join([*command, *arguments]), TEST_SECONDS)
    assert outcome.status == 0, str(outcome)


def test_the_guests_kernel_is_debian_12s(guest: Machine) -> None:
    release = guest.run("uname -r", 10).output.strip()
    assert release.startswith("6.1.")
    assert release.endswith("-cloud-amd64")


def test_the_programs_do_with_packets_what_they_do_on_newer_kernels(guest: Machine) -> None:
    tests = [f"tests/packet/{test}" for test in PACKET_TESTS]
    run_tests(guest, *PROCESSES, f"--deselect=tests/packet/{TOO_LONG}", *tests)


def test_connections_by_direct_routing_reach_their_members(guest: Machine) -> None:
    run_tests(guest, "tests/guest/inside/direct_routing.py")


@pytest.mark.requirement("L12")
def test_connections_and_errors_go_through_edge_nat_both_ways(guest: Machine) -> None:
    run_tests(guest, "tests/guest/inside/edge_nat.py")


@pytest.mark.requirement("L1")
@pytest.mark.requirement("L23")
def test_connections_go_through_the_directors_nat_both_ways(guest: Machine) -> None:
    run_tests(guest, "tests/guest/inside/director_nat.py")


@pytest.mark.requirement("L5")
@pytest.mark.requirement("L6")
@pytest.mark.requirement("L7")
def test_schedulers_choose_as_ip_vs_does(guest: Machine) -> None:
    run_tests(guest, "tests/guest/inside/ip_vs.py")


def test_the_engine_ipvs_brings_pools_about(guest: Machine) -> None:
    run_tests(guest, "tests/guest/inside/lvs_engine.py")
