# SPDX-License-Identifier: Apache-2.0
"""The lab and its command line where nothing is up."""

import pytest

from cloudlb.lab.cli import parser
from cloudlb.lab.errors import LabError, NotRunningError, UnknownNameError
from cloudlb.lab.image import Cache
from cloudlb.lab.lab import Lab


@pytest.fixture
def absent_lab(tmp_path):
    """A lab that nobody has brought up."""
    return Lab("neverup", tmp_path)


def test_unknown_host_is_answered_with_those_that_exist(absent_lab):
    with pytest.raises(UnknownNameError, match="control, client, director, compute1, compute2"):
        absent_lab.host("nova")


def test_unknown_service_is_answered_with_those_that_exist(absent_lab):
    with pytest.raises(UnknownNameError, match="libvirtd, agent"):
        absent_lab.host("compute1").service("api")


def test_host_of_an_absent_lab_says_how_to_bring_it_up(absent_lab):
    with pytest.raises(NotRunningError, match="cloudlb-lab --name neverup up"):
        absent_lab.host("client").run(["true"])


@pytest.mark.parametrize("name", ["", "a-b", "../x", "A", "1a", "a" * 17])
def test_name_that_cannot_be_a_prefix_is_refused(name):
    with pytest.raises(LabError, match="lower-case letters"):
        Lab(name)


def test_openstack_command_is_pointed_at_the_labs_api(absent_lab):
    environment = absent_lab.host("control").environment
    assert environment == {"OS_AUTH_TYPE": "none", "OS_ENDPOINT": "http://127.0.0.1:9890"}


def test_options_after_the_host_belong_to_the_command():
    options = parser().parse_args(["--name", "x", "exec", "vm1", "ip", "-6", "route"])
    assert (options.host, options.command) == ("vm1", ["ip", "-6", "route"])


def test_saved_images_of_different_digests_have_different_paths(tmp_path):
    cache = Cache(tmp_path)
    assert cache.saved("vm1", "a" * 64) != cache.saved("vm1", "b" * 64)
    assert cache.saved("vm1", "a" * 64) != cache.saved("vm2", "a" * 64)
