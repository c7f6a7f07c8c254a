# SPDX-License-Identifier: Apache-2.0
import json
import socket
from importlib.metadata import entry_points

import pytest

from cloudlb.client.osc import flow, host, member, network, plugin, pool, report

OVERRIDE = "traffic_placement_endpoint_override"
COMMANDS = entry_points(group="openstack.anycast.v1")


def test_every_command_is_registered():
    modules = (flow, host, member, network, pool, report)
    written = {
        each
        for module in modules
        for each in vars(module).values()
        if isinstance(each, type) and each.__module__ == module.__name__
        if hasattr(each, "take_action") and not each.__name__.startswith("_")
    }
    assert {each.load() for each in COMMANDS} == written


@pytest.mark.parametrize("name", sorted(each.name for each in COMMANDS))
def test_every_command_explains_itself(run, name):
    code, out, _ = run(name.removeprefix("anycast_").replace("_", " "), "--help")
    assert code == 0
    assert "usage: " in out


def test_an_api_that_is_down_is_one_sentence(run, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("OS_ENDPOINT", url)
    sentence = f"No traffic-placement API answers at {url}; is cloudlb-api running there?\n"
    assert run("pool list") == (1, "", sentence)
    assert run("pool delete a b") == (1, "", sentence)


@pytest.mark.parametrize(
    ("endpoint", "sentence"),
    [
        ("127.0.0.1:9890", "The endpoint '127.0.0.1:9890' is no URL; one is http://"),
        ("", "OS_ENDPOINT is not set; name the address of the API, as http://"),
    ],
)
def test_an_endpoint_that_is_no_url_is_one_sentence(run, monkeypatch, endpoint, sentence):
    monkeypatch.setenv("OS_ENDPOINT", endpoint)
    code, _, err = run("pool list")
    assert code == 1
    assert err == f"{sentence}127.0.0.1:9890.\n"


def test_the_endpoint_of_another_service_is_one_sentence(run, api):
    version = {"id": "v3.14", "status": "stable", "links": [{"href": f"{api.url}/v3/"}]}
    api.answer("GET /", {"versions": {"values": [version]}}, status=300)
    code, _, err = run("pool list")
    assert code == 1
    assert err == (
        "What answers is no traffic-placement API of version 1: correct the catalog, or name the "
        "address of cloudlb-api by OS_ENDPOINT.\n"
    )


def test_a_server_that_never_answers_is_given_up_and_the_session_keeps_its_patience(
    run, monkeypatch
):
    monkeypatch.setattr(plugin, "_LONGEST_LOOK", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("OS_ENDPOINT", url)
        code, _, err = run("pool list")
    assert code == 1
    assert err == (
        f"No traffic-placement API answers at {url}; is cloudlb-api running there, behind a "
        "proxy that ends TLS?\n"
    )


@pytest.mark.parametrize(
    ("line", "noun", "command"),
    [
        ("pool show x", "pool", "pool list"),
        ("network show x", "network", "network list"),
        ("host show x", "host", "host list"),
        ("pool member show web x", "member", "pool member list"),
    ],
)
def test_a_name_that_nothing_has_is_told_with_where_the_names_are(
    run, api, existing, line, noun, command
):
    shown = api.answers["GET /v1/pools"][0][1] if noun == "member" else {"pools": []}
    api.answer("GET /v1/pools", shown)
    for path in ("networks", "hosts"):
        api.answer(f"GET /v1/{path}", {path: []})
    api.answer(f"GET {existing}/members", {"members": []})
    sentence = f"There is no {noun} 'x'. Those that there are: openstack anycast {command}\n"
    assert run(line) == (1, "", sentence)


def test_a_change_in_between_is_one_sentence(run, api, existing):
    api.refuse(f"PATCH {existing}", 412, "If-Match: The object has generation 9 by now.")
    sentence = "Somebody else has changed it meanwhile. Look at it, and repeat the command.\n"
    assert run("pool set web --port tcp:81") == (1, "", sentence)


@pytest.mark.parametrize("path", ["", "/", "/v1/"])
def test_the_endpoint_comes_from_the_catalog(cloud, api, existing, path):
    run = cloud(("traffic-placement", f"{api.url}{path}"))
    code, out, _ = run("pool list -f value -c Name")
    assert (code, out) == (0, "web\n")


def test_a_catalog_without_the_service_is_one_sentence(cloud, api):
    code, _, err = cloud(("compute", api.url))("pool list")
    assert code == 1
    assert err == (
        "The catalog of this cloud has no traffic-placement service: register it, or set "
        "traffic_placement_endpoint_override in clouds.yaml.\n"
    )


def test_an_override_goes_before_the_catalog(cloud, api, existing, tmp_path, monkeypatch):
    run = cloud(("traffic-placement", "http://127.0.0.1:9"))
    settings = tmp_path / "clouds.yaml"
    settings.write_text(json.dumps({"clouds": {"c": {OVERRIDE: api.url}}}))
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(settings))
    monkeypatch.setenv("OS_CLOUD", "c")
    assert run("pool list -f value -c Name")[:2] == (0, "web\n")


def test_an_error_of_the_api_names_the_field(run, api):
    api.answer("GET /v1/networks", {"networks": [{"id": "n", "name": "net"}]})
    api.answer("GET /v1/networks/n", {"network": {"id": "n", "name": "net"}})
    api.refuse("POST /v1/pools", 400, "The pool is invalid.", address="is no IP address")
    code, _, err = run("pool create web --network net --address 1.2.3 --port tcp:80")
    assert code == 1
    assert err == "The pool is invalid.\n  address: is no IP address\n"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("pool create web --port tcp:80", "required: --network"),
        ("pool create web --network n", "required: --port"),
        ("pool create web --network n --port 80", "argument --port: '80' is no port"),
        ("pool create web --network n --port tcp:80 --ip-version 5", "'5' is none of 4, 6"),
        (
            "pool create w --network n --port tcp:1 --address ::1 --ip-version 6",
            "not allowed with",
        ),
        (
            "pool create web --network n --port tcp:80 --scheduler lc",
            "'lc' is none of round_robin",
        ),
        ("pool member create web", "one of the arguments --server --address is required"),
        ("pool member set web vm1 --weight 257", "257 is not between 0 and 256"),
        ("pool list --limit 0", "0 is not 1 or more"),
    ],
)
def test_wrong_input_is_refused_before_the_api_is_asked(run, api, line, complaint):
    code, _, err = run(line)
    assert code == 2
    assert complaint in err
    assert not [each for each in api.asked if each.request.startswith("POST")]


def test_deleting_several_goes_on_and_counts_the_failures(run, api, existing):
    api.answer("GET /v1/pools", {"pools": []}, api.answers["GET /v1/pools"][0][1])
    api.answer(f"DELETE {existing}", None, status=204)
    code, _, err = run("pool delete nothing web")
    assert code == 1
    assert "Failed to delete pool 'nothing': There is no pool 'nothing'. " in err
    assert err.endswith("1 of 2 pools failed to delete.\n")
    assert api.asked[-1].request == f"DELETE {existing}"


def test_a_pool_that_is_not_realized_in_time_is_a_failure(run, api, pending, existing):
    api.answer(f"GET {existing}", {"pool": pending})
    api.answer(f"PATCH {existing}", {"pool": pending}, status=202)
    code, _, err = run("pool set web --drain-timeout 5 --wait --timeout 0.1")
    assert code == 1
    assert "is changed, but after 0.1 s it is not realized on every host: pending (h1 has" in err


def test_a_pool_that_stays_after_its_deletion_is_a_failure(run, api, existing):
    api.answer(f"DELETE {existing}", None, status=204)
    code, _, err = run("pool delete web --wait --timeout 0.1")
    assert code == 1
    assert "The pool 'web' is deleted, but after 0.1 s it is still there" in err


def test_set_adds_ports_and_no_port_replaces_them(run, api, pool, existing):
    api.answer(f"PATCH {existing}", {"pool": pool})
    assert run("pool set web --port tcp:80 --port tcp:443")[0] == 0
    assert run("pool set web --port udp:53 --no-port")[0] == 0
    assert [each["pool"]["ports"] for each in api.bodies(f"PATCH {existing}")] == [
        [{"protocol": "tcp", "port": 80}, {"protocol": "tcp", "port": 443}],
        [{"protocol": "udp", "port": 53}],
    ]
    assert api.asked[-1].if_match == '"4"'


def test_unset_resets_settings_and_removes_ports(run, api, pool, existing):
    pool["ports"].append({"protocol": "udp", "port": 53})
    pool["monitor"] = {"type": "tcp"}
    api.answer(f"PATCH {existing}", {"pool": pool})
    assert run("pool unset web --monitor --director --port tcp:80")[0] == 0
    assert api.bodies(f"PATCH {existing}") == [
        {"pool": {"monitor": None, "directors": None, "ports": [{"protocol": "udp", "port": 53}]}}
    ]
    code, _, err = run("pool unset web --port tcp:81")
    assert (code, err) == (1, "--port: 'web' has no such port.\n")


def test_conditions_are_lines_for_people_and_data_for_programs(run, pool, existing):
    _, table, _ = run("pool show web")
    assert "health: unknown (nothing is probed)" in table
    _, text, _ = run("pool show web -f json")
    assert json.loads(text) == pool
    _, text, _ = run("pool list -f json")
    assert json.loads(text)[0]["Ports"] == [{"protocol": "tcp", "port": 80}]


def test_the_version_of_the_api_is_an_option(run, api, existing, monkeypatch):
    monkeypatch.setenv("OS_ANYCAST_API_VERSION", "1")
    assert run("pool list")[0] == 0
