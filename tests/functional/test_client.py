# SPDX-License-Identifier: Apache-2.0
"""The commands of the ``openstack`` client against the real API on SQLite and a web server."""

import csv
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
from ipaddress import ip_address
from pathlib import Path
from uuid import UUID, uuid4

import openstack
import pytest
import waitress
from openstackclient.shell import OpenStackShell
from osc_lib.clientmanager import ClientManager
from oslo_config import cfg
from waitress import wasyncore

from cloudlb import conf as configuration
from cloudlb.api.app import create_app
from cloudlb.client.osc import plugin
from cloudlb.client.service import TrafficPlacement
from cloudlb.conductor.conductor import Conductor
from cloudlb.db import schema
from cloudlb.db.session import connect
from cloudlb.model.errors import Unavailable
from cloudlb.model.ether import Mac
from cloudlb.model.host import Interface, Inventory, Owner, Role, Server, Uplink
from cloudlb.model.snapshot import Realization, RealizationState, Report
from cloudlb.schemas.version import SERVICE_TYPE

DIRECTOR, COMPUTE = "director", "compute1"
ABSENT = "00000000-0000-4000-8000-000000000000"


class Site:
    """A control plane whose hosts do at once what is wanted of them, unless they are ``lazy``."""

    def __init__(self, connection):
        self.sessions = connect(connection)
        self.conductor = Conductor(self.sessions, self.ring)
        self.lazy = False
        self.counts = {}
        self._revision = 0

    def ring(self, hosts):
        for host in hosts:
            threading.Thread(target=self.work, args=(host,)).start()

    def work(self, host):
        snapshot = self.conductor.get_desired(host, 0)
        if snapshot is None or self.lazy:
            return
        words = [
            Realization(
                view.pool.id,
                snapshot.generation,
                RealizationState.GONE if view.removing else RealizationState.REALIZED,
            )
            for view in snapshot.pools
        ]
        self.conductor.report(host, Report(snapshot.generation, tuple(words)))

    def catch_up(self):
        self.lazy = False
        for host in (DIRECTOR, COMPUTE):
            self.work(host)

    def find(self, host, roles, servers=()):
        """The host reports what is on it."""
        self._revision += 1
        uplink = Uplink("net0", "eth1", Mac("02:00:00:00:00:01"), (ip_address("10.60.0.2"),))
        inventory = Inventory(self._revision, roles, "memory", (uplink,), tuple(servers))
        self.conductor.report(host, Report(0, inventory=inventory))

    def ask(self, host, question, args):
        if host not in self.counts:
            raise Unavailable("It does not answer.")
        if question != "stats":
            return self.counts[host][question]
        return {"members": self.counts[host], "rates": {}}


def server(number):
    address = ip_address(f"10.60.0.{10 + number}")
    nic = Interface(Mac(f"52:54:00:00:00:{number:02x}"), f"tap{number}", "net0", (address,))
    return Server(UUID(int=number), f"vm{number}", Owner.LIBVIRT, True, "default", (nic,))


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """A file with the tables, to be copied: making them takes longer than most tests."""
    path = tmp_path_factory.mktemp("empty") / "cloudlb.sqlite"
    sessions = connect(f"sqlite:///{path}")
    schema.sync(sessions)
    sessions.engine.dispose()
    return path


@pytest.fixture
def site(empty_database, tmp_path):
    """A director, and a compute host with three servers."""
    shutil.copy(empty_database, tmp_path)
    site = Site(f"sqlite:///{tmp_path}/{empty_database.name}")
    site.find(DIRECTOR, (Role.DIRECTOR,))
    site.find(COMPUTE, (Role.COMPUTE,), [server(1), server(2), server(3)])
    return site


@pytest.fixture
def url(site):
    """Where the API is served."""
    conf = cfg.ConfigOpts()
    configuration.register(conf)
    conf([], project="cloudlb", default_config_files=[])
    app = create_app(conf, site.sessions, site.ring, site.ask, check_responses=True)
    sockets = {}
    web = waitress.create_server(app, map=sockets, host="127.0.0.1", port=0, threads=8)
    stopping = threading.Event()
    thread = threading.Thread(target=serve, args=(sockets, stopping))
    thread.start()
    yield f"http://127.0.0.1:{web.effective_port}"
    stopping.set()
    thread.join()
    web.task_dispatcher.shutdown()


def serve(sockets, stopping):
    """In the place of the server's own loop, which ends only when all clients have gone."""
    while not stopping.is_set():
        wasyncore.loop(timeout=0.05, map=sockets, count=1)
    wasyncore.close_all(sockets)


@pytest.fixture
def run(url, monkeypatch, capsys):
    """Run ``openstack anycast`` in this process: exit code, output, errors."""
    # in the place of a cache that would keep the first test's client for the whole process
    ClientManager.anycast = property(plugin.make_client)
    handlers = list(logging.getLogger().handlers)
    monkeypatch.setenv("OS_AUTH_TYPE", "none")
    monkeypatch.setenv("OS_ENDPOINT", url)

    def run(line):
        try:
            code = OpenStackShell().run(["anycast", *line.split()])
        except SystemExit as stop:
            code = stop.code
        logging.getLogger().handlers[:] = handlers
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def done(run):
    """Run a command that must succeed; what it prints, read as JSON."""

    def done(line):
        code, out, err = run(line)
        assert (code, err) == (0, "")
        return json.loads(out) if out.strip() else None

    return done


@pytest.fixture
def shown(done):
    """The output of a command that prints something."""
    return lambda line: done(f"{line} -f json")


@pytest.fixture
def network(shown):
    return shown("network create net0 --subnet 10.60.0.0/24 --vip-range 10.60.0.128/25")


@pytest.fixture
def pool(shown, network):
    """A pool with two members."""
    return shown(
        "pool create web --network net0 --port tcp:80 --scheduler source_hash"
        " --member vm1 --member vm2,weight=1"
    )


def test_a_network_is_created_shown_changed_listed_and_deleted(done, shown, run, network):
    assert network["prefixes"] == ["10.60.0.0/24"]
    assert shown("network show net0") == network
    done("network set net0 --subnet fd00::/64 --vip-range fd00::100/120")
    done(f"network set {network['id']} --no-vip-range --vip-range 10.60.0.192/26")
    (row,) = shown("network list --name net0")
    assert row["Prefixes"] == ["10.60.0.0/24", "fd00::/64"]
    assert row["VIP Range"] == ["10.60.0.192/26"]
    done("network delete net0")
    assert shown("network list") == []


def test_a_pool_is_created_with_all_that_the_options_say(shown, network):
    pool = shown(
        "pool create web --network net0 --address 10.60.0.130 --port tcp:80 --port udp:53"
        " --data-plane dr --scheduler source_hash --director director --drain-timeout 5"
        " --monitor type=tcp,interval=2,timeout=0.5,rise=1,fall=5,port=80 --description words"
        " --disable --member vm1 --member address=10.60.0.12,weight=0,name=second"
    )
    assert pool["address"] == "10.60.0.130"
    assert pool["ports"] == [{"protocol": "tcp", "port": 80}, {"protocol": "udp", "port": 53}]
    assert {name: value for name, value in pool["monitor"].items() if value is not None} == {
        "type": "tcp",
        "interval": 2.0,
        "timeout": 0.5,
        "rise": 1,
        "fall": 5,
        "port": 80,
    }
    assert (pool["scheduler"], pool["directors"]) == ("source_hash", ["director"])
    assert (pool["drain_timeout"], pool["description"]) == (5, "words")
    assert pool["status"]["admin"]["state"] == "down"
    assert [(m["name"], m["weight"], m["host"]) for m in pool["members"]] == [
        ("vm1", 1, COMPUTE),
        ("second", 0, COMPUTE),
    ]


def test_a_scheduler_its_variants_and_persistence_are_set_and_unset(done, shown, network):
    pool = shown(
        "pool create web --network net0 --port tcp:80 --scheduler weighted_round_robin"
        " --rotation-order smooth --persistence timeout=60,prefix=24"
    )
    assert (pool["scheduler"], pool["rotation_order"]) == ("weighted_round_robin", "smooth")
    assert pool["persistence"] == {"timeout": 60, "prefix": 24}
    done(
        "pool set web --scheduler least_connections --connection-count lvs"
        " --persistence timeout=5,prefix=32"
    )
    pool = shown("pool show web")
    assert (pool["scheduler"], pool["connection_count"]) == ("least_connections", "lvs")
    assert pool["persistence"] == {"timeout": 5, "prefix": 32}
    done("pool unset web --scheduler --connection-count --rotation-order --persistence")
    pool = shown("pool show web")
    assert (pool["scheduler"], pool["connection_count"]) == ("round_robin", "active")
    assert (pool["rotation_order"], pool["persistence"]) == ("interleaved", None)


@pytest.mark.requirement("L2")
def test_a_data_plane_is_set_and_unset(done, shown, network):
    assert shown("pool create web --network net0 --port tcp:80 --data-plane nat")
    done("pool set web --data-plane tun")
    assert shown("pool show web")["data_plane"] == "tun"
    done("pool unset web --data-plane")
    assert shown("pool show web")["data_plane"] == "dr"


@pytest.mark.requirement("L11")
def test_timeouts_are_set_one_by_one_and_unset(done, shown, network):
    pool = shown("pool create web --network net0 --port tcp:80 --timeouts established=3600,udp=60")
    wanted = {"opening": None, "established": 3600, "closing": None, "udp": 60}
    assert pool["timeouts"] == wanted
    done("pool set web --timeouts udp=90")
    assert shown("pool show web")["timeouts"] == wanted | {"udp": 90}
    done("pool unset web --timeouts")
    assert shown("pool show web")["timeouts"] is None


def test_probes_by_http_and_what_follows_from_them_are_set_and_unset(done, shown, network):
    pool = shown(
        "pool create web --network net0 --port tcp:80 --panic-threshold 50"
        " --monitor http,expected_codes=200,301-302,path=/up,host=shop.example"
        " --member vm1 --member address=10.60.0.12,backup=true"
    )
    assert pool["panic_threshold"] == 50
    assert pool["monitor"]["expected_codes"] == "200,301-302"
    assert (pool["monitor"]["path"], pool["monitor"]["host"]) == ("/up", "shop.example")
    assert [m["backup"] for m in pool["members"]] == [False, True]
    done("pool set web --monitor expected_codes=204")
    done("pool unset web --panic-threshold")
    done("pool member set web vm1 --backup true")
    done("pool member unset web vm2 --backup")
    pool = shown("pool show web")
    assert (pool["panic_threshold"], pool["monitor"]["expected_codes"]) == (0, "204")
    assert {m["server_name"]: m["backup"] for m in pool["members"]} == {"vm1": True, "vm2": False}


def test_an_address_is_allocated_from_the_wanted_family(done, shown, network):
    done("network set net0 --subnet fd00::/64 --vip-range fd00::100/120")
    pool = shown("pool create six --network net0 --port tcp:80 --ip-version 6")
    assert ip_address(pool["address"]).version == 6


def test_a_pool_is_found_by_name_and_by_id(shown, pool):
    for reference in ("web", pool["id"]):
        assert shown(f"pool show {reference}")["id"] == pool["id"]


def test_a_pool_is_set_and_unset(done, shown, pool):
    done(
        "pool set web --name www --description d --port tcp:443 --scheduler source_hash"
        " --monitor type=tcp,rise=4 --drain-timeout 7 --disable"
    )
    changed = shown("pool show www")
    assert [p["port"] for p in changed["ports"]] == [80, 443]
    assert (changed["scheduler"], changed["drain_timeout"]) == ("source_hash", 7)
    assert (changed["admin_state_up"], changed["description"]) == (False, "d")
    done("pool set www --monitor fall=9 --enable --no-port --port tcp:81")
    changed = shown("pool show www")
    assert (changed["monitor"]["rise"], changed["monitor"]["fall"]) == (4, 9)
    assert (changed["ports"], changed["admin_state_up"]) == (
        [{"protocol": "tcp", "port": 81}],
        True,
    )
    done("pool set www --port tcp:80")
    done("pool unset www --monitor --scheduler --drain-timeout --description --port tcp:81")
    changed = shown("pool show www")
    assert (changed["monitor"], changed["scheduler"]) == (None, "round_robin")
    assert (changed["drain_timeout"], changed["description"]) == (300, "")
    assert changed["ports"] == [{"protocol": "tcp", "port": 80}]


def test_pools_are_listed_by_page_name_and_network(shown, network, pool):
    for name in ("a", "b", "a"):
        shown(f"pool create {name} --network net0 --port tcp:80")
    assert sorted(row["Name"] for row in shown("pool list")) == ["a", "a", "b", "web"]
    first = shown("pool list --limit 3")
    rest = shown(f"pool list --marker {first[-1]['ID']}")
    assert sorted(row["Name"] for row in first + rest) == ["a", "a", "b", "web"]
    assert len(shown("pool list --name a")) == 2
    assert len(shown("pool list --network net0 --long")) == 4
    assert shown("pool list --name web")[0]["Ports"] == [{"protocol": "tcp", "port": 80}]


def test_members_are_created_changed_listed_and_removed(done, shown, site, pool):
    member = shown("pool member create web --server vm3 --weight 5 --name third")
    assert (member["host"], member["placement"]) == (COMPUTE, "hosted")
    done("pool member set web third --weight 0 --disable")
    assert shown(f"pool member show web {member['id']}")["weight"] == 0
    done("pool member unset web third --weight --name")
    row = next(row for row in shown("pool member list web") if row["Server Name"] == "vm3")
    assert (row["Name"], row["Weight"], row["Admin State Up"]) == ("vm3", 1, False)
    site.lazy = True
    done("pool member delete web vm3 vm2")
    rows = shown("pool status web")
    assert {r["Name"] for r in rows if r["Condition"] == "removing"} == {"vm2", "vm3"}
    threading.Timer(4, site.catch_up).start()
    done("pool member delete web vm3 vm2 --wait")
    assert [row["Name"] for row in shown("pool member list web")] == ["vm1"]


def test_a_member_is_named_by_an_address(shown, pool):
    member = shown("pool member create web --address 10.60.0.13")
    assert member["server_name"] == "vm3"


def test_waiting_returns_when_all_hosts_have_it(shown, site, network):
    pool = shown("pool create web --network net0 --port tcp:80 --member vm1 --wait")
    assert pool["status"]["realized"] == {"state": "yes", "reason": ""}


def test_waiting_ends_when_a_slow_host_has_it(done, shown, site, pool):
    site.lazy = True
    threading.Timer(1.5, site.catch_up).start()
    done("pool member set web vm1 --weight 9 --wait --timeout 30")
    assert shown("pool show web")["status"]["realized"]["state"] == "yes"


def test_waiting_in_vain_says_which_host_is_late(run, site, network):
    site.lazy = True
    code, out, err = run("pool create web --network net0 --port tcp:80 --wait --timeout 1.2")
    assert (code, out) == (1, "")
    words = r"The pool 'web' \(.{36}\) is created, but after 1.2 s it is not realized on every"
    assert re.match(words + r" host: pending \(director ", err)


def test_a_deletion_waits_until_no_host_has_anything(done, shown, run, site, pool):
    site.lazy = True
    code, _, err = run("pool delete web --wait --timeout 1.2")
    assert code == 1
    assert "The pool 'web' is deleted, but after 1.2 s it is still there" in err
    assert err.splitlines()[-1] == "1 of 1 pools are not gone yet."
    assert shown("pool list")[0]["Removing"] is True
    threading.Timer(0.5, site.catch_up).start()
    done("pool delete web --wait")
    assert shown("pool list") == []


@pytest.mark.parametrize(("option", "why"), [("--weight 0", "its weight"), ("--disable", "dis")])
def test_the_status_says_why_a_member_takes_nothing_new(done, shown, pool, option, why):
    done(f"pool member set web vm1 {option}")
    rows = {(row["Name"], row["Condition"]): row for row in shown("pool status web")}
    row = rows["vm1", "admin"]
    assert row["State"] == "no new connections"
    assert why in row["Reason"]


def test_the_name_of_a_pool_that_is_going_is_free(shown, run, site, pool):
    site.lazy = True
    assert run("pool delete web")[0] == 0
    young = shown("pool create web --network net0 --port tcp:80")
    assert shown("pool show web")["id"] == young["id"] != pool["id"]


def test_an_ambiguous_name_lists_the_ids(shown, run, pool):
    other = shown("pool create web --network net0 --port tcp:81")
    code, _, err = run("pool show web")
    assert code == 1
    assert err.startswith("2 pools have the name 'web'; give one's ID: ")
    assert pool["id"] in err
    assert other["id"] in err


def test_deleting_several_counts_the_failures(run, pool):
    code, _, err = run(f"pool delete nothing {ABSENT} web")
    assert code == 1
    there_are = "Those that there are: openstack anycast pool list"
    assert err.splitlines() == [
        f"Failed to delete pool 'nothing': There is no pool 'nothing'. {there_are}",
        f"Failed to delete pool '{ABSENT}': There is no pool '{ABSENT}'. {there_are}",
        "2 of 3 pools failed to delete.",
    ]


def test_connections_are_listed_and_explained_by_the_pools_address(run, shown, site, pool):
    member = {m["name"]: m["id"] for m in shown("pool show web")["members"]}["vm2"]
    flow = {"client": "192.0.2.1", "client_port": 40000, "port": {"protocol": "tcp", "port": 80}}
    said = {"member_id": member, "reason": "turn", "detail": "it has the next turn"}
    flows = [{**flow, "member_id": member, "state": "established", "idle": 1.5}]
    site.counts[DIRECTOR] = {"flows": flows, "explain": said}
    (row,) = shown("pool flows web")
    assert (row["Client"], row["Member Name"], row["State"]) == ("192.0.2.1", "vm2", "established")
    to = f"{pool['address']}:80"
    found = shown(f"pool explain --from 192.0.2.1:40000 --to {to}")
    assert (found["member_name"], found["reason"]) == ("vm2", "turn")
    code, _, err = run("pool explain --from 192.0.2.1:40000 --to 192.0.2.9:80")
    assert (code, err.strip()) == (1, "No pool has the address 192.0.2.9.")
    code, _, err = run(f"pool explain --from 192.0.2.1 --to {to}")
    assert code == 2
    assert "'192.0.2.1' is no address:port; write 192.0.2.1:80" in err


def test_status_has_a_row_for_each_condition(shown, site, pool):
    site.catch_up()
    rows = shown("pool status web")
    states = {(r["Object"], r["Name"], r["Condition"]): r["State"] for r in rows}
    assert states[("pool", "web", "realized")] == "yes"
    assert states[("host", DIRECTOR, "realized")] == "realized"
    assert states[("member", "vm1", "placement")] == f"hosted on {COMPUTE}"
    assert states[("member", "vm2", "health")] == "unknown"


def test_stats_have_a_row_for_each_member_and_their_sum(run, site, pool):
    ids = [member["id"] for member in pool["members"]]
    site.counts[DIRECTOR] = [{"member_id": ids[0], "connections": 3, "active": 1}]
    site.counts[DIRECTOR] += [{"member_id": ids[1], "connections": 6, "active": 2}]
    code, out, err = run("pool stats web -f csv")
    assert code == 0
    assert err == f"No answer from {COMPUTE}: not in the counts\n"
    rows = {row["Name"]: row for row in csv.DictReader(out.splitlines())}
    assert [rows[name]["Connections"] for name in ("vm1", "vm2", "total")] == ["3", "6", "9"]
    assert "Connections Per Second" in run("pool stats web --rate")[1]
    (row,) = csv.DictReader(run("pool stats web --hosts -f csv")[1].splitlines())
    assert (row["Host"], row["Passed On"], row["Table"]) == (DIRECTOR, "9", "3")


def test_hosts_and_drivers_are_shown(done, shown, site, run):
    hosts = {row["Name"]: row for row in shown("host list")}
    assert hosts[DIRECTOR]["Roles"] == ["director"]
    assert hosts[COMPUTE]["Alive"] is True
    assert shown(f"host show {COMPUTE}")["uplinks"][0]["network"] == "net0"
    families = {row["Name"]: row["Address Families"] for row in shown("driver list")}
    assert families["dr"] == [4, 6]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("network list --long", "10.60.0.128/25"),
        ("pool list --long", "tcp:80"),
        ("pool show web", "vm2 on compute1: unknown"),
        ("pool member list web --long", "10.60.0.11"),
        ("pool member show web vm2", "hosted"),
        ("host show compute1", "net0: eth1 02:00:00:00:00:01 10.60.0.2"),
        ("driver list", "4, 6"),
    ],
)
def test_tables_are_for_people(run, pool, line, text):
    code, out, err = run(line)
    assert (code, err) == (0, "")
    assert text in out


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("pool create w --network nix --port tcp:80", "There is no network 'nix'."),
        ("pool create w --network net0 --port tcp:80 --address 1.2.3.4", "1.2.3.4"),
        ("pool create w --network net0 --port tcp:80 --address x", "pool.address: must be"),
        ("pool create w --network net0 --port tcp:80 --data-plane nix", "dr"),
        ("pool create w --network net0 --port tcp:80 --director nix", "nix"),
        ("pool create w --network net0 --port tcp:80 --member vm9", "Known: vm1, vm2, vm3"),
        ("pool create w --network net0 --port tcp:80 --monitor rise=1", "type"),
        ("pool create w --network net0 --port tcp:80 --port tcp:80", "twice"),
        ("pool unset web --port tcp:80", "ports"),
        ("pool member set web nix --weight 1", "There is no member 'nix'."),
        ("pool member create nix --server vm1", "There is no pool 'nix'."),
        ("network delete net0", "pool"),
        ("network set net0 --vip-range 10.0.0.0/8", "10.0.0.0/8"),
        ("host show nix", "There is no host 'nix'."),
        ("pool list --marker nix", "marker"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(run, pool, line, complaint):
    code, out, err = run(line)
    assert (code, out) == (1, "")
    assert complaint in err
    assert "Traceback" not in err


def test_a_host_that_reports_cannot_be_declared_gone(run, site):
    code, _, err = run(f"host delete {COMPUTE}")
    assert (code, err.splitlines()[-1]) == (1, "1 of 1 hosts failed to delete.")


def test_python_programs_use_the_same_methods(url, site):
    connection = openstack.connection.Connection(auth_type="none", auth={"endpoint": url})
    connection.add_service(TrafficPlacement(SERVICE_TYPE))
    api = connection.traffic_placement
    network = api.create_network(
        name="net0", prefixes=["10.60.0.0/24"], vip_range=["10.60.0.128/25"]
    )
    pool = api.create_pool(
        name="web",
        network_id=network.id,
        ports=[{"protocol": "tcp", "port": 80}],
        members=[{"server": "vm1"}],
    )
    assert api.wait_for_pool(pool, 30).status["realized"]["state"] == "yes"
    assert [member.name for member in api.pool_members(pool)] == ["vm1"]
    with pytest.raises(openstack.exceptions.PreconditionFailedException):
        api.update_pool(pool.id, name="other", if_match='"0"')
    api.delete_pool(pool, wait=30)
    with pytest.raises(openstack.exceptions.NotFoundException):
        api.find_pool(str(uuid4()))
    connection.close()


def openstack_program(url, *words):
    program = Path(sys.executable).with_name("openstack")
    env = os.environ | {"OS_AUTH_TYPE": "none", "OS_ENDPOINT": url}
    return subprocess.run(
        [program, "anycast", *words],
        check=False,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
def test_the_real_program_takes_any_form_of_the_endpoint(url, pool, path):
    ended = openstack_program(url + path, "pool", "list", "-f", "value", "-c", "Name")
    assert (ended.returncode, ended.stdout) == (0, "web\n")


def test_the_real_program_fails_with_a_sentence(url):
    ended = openstack_program(url, "pool", "show", "nix")
    sentence = "There is no pool 'nix'. Those that there are: openstack anycast pool list\n"
    assert (ended.returncode, ended.stderr) == (1, sentence)
