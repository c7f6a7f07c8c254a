# SPDX-License-Identifier: Apache-2.0
"""The programs on Debian 12's kernel, Linux 6.1: loaded, attached through clsact, with traffic."""

import shlex
import sys

import pytest

from tests.guest.machine import Machine
from tests.soak import choose

TEST_SECONDS = 2400
"""Several times what it takes under TCG on a machine with nothing else to do."""
PROCESSES = ("-n", "2", "--dist", "loadfile")
"""One on each of the guest's processors."""
TOO_LONG = "test_guard_arp.py::test_a_guest_that_invents_addresses_takes_no_other_guests_place"
"""Makes thousands of frames, which takes two minutes by TCG."""
EACH_DAY = (
    "test_answers.py::test_a_solicitation_is_answered_with_the_uplinks_address",
    "test_answers.py::test_an_arp_request_is_answered_with_the_uplinks_address",
    "test_attached.py::test_a_segment_on_the_uplink_comes_back_for_the_member",
    "test_attached.py::test_detaching_takes_our_filters_and_leaves_those_of_others",
    "test_dead_members.py::test_a_clients_segment_to_a_dead_member_is_reset",
    "test_director_nat.py::test_both_ends_see_what_they_know",
    "test_director_nat_parts.py::test_the_parts_of_a_datagram_are_translated_there_and_back",
    "test_directors.py::test_the_master_answers_for_the_address",
    "test_distributed.py::test_a_guest_gets_what_came_in_a_tunnel_and_what_came_without_and_clamps_segments",
    "test_edge_nat.py::test_the_guest_sees_its_own_address_and_the_client_the_pools",
    "test_edge_nat_parts.py::test_all_fragments_of_a_datagram_reach_the_guests_own_address",
    "test_errors.py::test_an_error_travels_through_the_tunnel_to_the_guest[6in4]",
    "test_express.py::test_behind_edge_nat_the_tap_translates_what_comes_this_way_too",
    "test_express.py::test_changes_of_a_state_are_counted_and_told",
    "test_flows.py::test_a_connection_is_forgotten_after_the_time_of_its_state[closing]",
    "test_forwarding.py::test_only_the_ethernet_addresses_change",
    "test_guard_arp.py::test_a_guest_is_not_heard_saying_it_has_the_address",
    "test_guard_nd.py::test_a_guest_is_not_heard_saying_it_has_the_address",
    "test_masquerade.py::test_both_ends_see_what_they_know",
    "test_parts.py::test_parts_in_any_order_reach_a_guest_behind_edge_nat[udp-ipv4]",
    "test_persistence.py::test_clients_of_one_prefix_are_one",
    "test_round_robin.py::test_connections_arriving_on_two_cpus_at_once_are_shared_equally",
    "test_schedulers.py::test_by_lvs_formula_connections_that_only_open_count_a_little",
    "test_sharing.py::test_a_connection_is_told_when_it_begins_and_when_its_state_changes[ipv4]",
    "test_sharing.py::test_a_packet_of_a_connection_that_is_not_known_goes_to_the_other_director",
    "test_signs.py::test_an_end_that_a_guest_makes_is_told",
    "test_source_hash.py::test_clients_go_where_the_reference_says",
    "test_succession.py::test_connections_of_all_modes_live_side_by_side[dr-edge_nat-tun-ipv6]",
    "test_tunnel.py::test_the_tap_takes_off_what_the_director_has_put_on",
    "test_tunnel_gso.py::test_a_checksum_that_is_left_to_the_device_is_right_in_the_end",
    "test_tunnel_mss.py::test_the_limit_itself_stays",
    "test_tunnel_size.py::test_what_fits_exactly_is_sent_on",
)
"""What each program does, and each kind of scheduler. To load them takes 3 s by TCG."""
IN_THE_SOAK = (
    "test_answers.py",
    "test_edge_nat_parts.py",
    "test_forwarding.py",
    "test_guard_arp.py",
    "test_guard_nd.py",
    "test_tunnel.py::test_a_segment_travels_inside_a_packet_to_the_members_own_address",
    "test_tunnel_gso.py",
    "test_tunnel_mss.py::test_a_member_asks_for_no_more_than_fits",
    "test_tunnel_mss.py::test_the_option_may_stand_at_any_place",
    "test_tunnel_size.py::test_a_client_is_told_how_large_its_packets_may_be",
)
"""What the verifier and helpers of an older kernel could do differently with odd frames."""


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
    tests = choose([*EACH_DAY], [*IN_THE_SOAK])
    deselect = f"--deselect=tests/packet/{TOO_LONG}"
    run_tests(guest, *PROCESSES, deselect, *(f"tests/packet/{test}" for test in tests))


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
