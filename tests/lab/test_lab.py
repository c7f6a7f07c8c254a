# SPDX-License-Identifier: Apache-2.0
"""The lab itself: real hosts, guests and traffic, and nothing left when it is gone."""

import json
import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from cloudlb.lab.errors import AlreadyRunningError, DeadlineError, LabError
from cloudlb.lab.lab import Lab
from cloudlb.lab.network import PINS
from cloudlb.lab.process import ProcessId, wait_for, wait_gone
from cloudlb.lab.topology import GUESTS, HOSTS
from tests.lab.control import Cloud, get

COMMAND = [sys.executable, "-m", "cloudlb.cmd.lab"]
ADDRESSES = [
    pytest.param(guest.name, str(address), id=f"{guest.name}-v{address.version}")
    for guest in GUESTS
    for address in (guest.ipv4, guest.ipv6)
]
PRIVATE_DIRECTORIES = [
    "/etc/libvirt",
    "/run/libvirt",
    "/var/cache/libvirt",
    "/var/lib/libvirt",
    "/var/lib/rabbitmq",
    "/var/log/libvirt",
]
PRIVATE_IN_HOSTS = [
    "/run",
    "/tmp",  # noqa: S108
    "/dev/shm",  # noqa: S108
    "/var/lib",
    "/etc/libvirt/hooks",
    "/sys/fs/bpf",
]
HTTP = """\
import http.client, sys
address, method, path, length = sys.argv[1:]
connection = http.client.HTTPConnection(address, 80, timeout=20)
body = bytes(i % 256 for i in range(int(length)))
for attempt in range(2):  # the second request shows that the connection was kept
    connection.request(method, path, body=body if method == "POST" else None)
    answer = connection.getresponse()
    content = answer.read()
assert answer.status == 200, answer.status
print(answer.headers["X-Server"])
sys.stdout.flush()
sys.stdout.buffer.write(content)
"""
TCP = """\
import socket, sys
flows = [socket.create_connection((sys.argv[1], 7), timeout=20) for _ in range(int(sys.argv[2]))]
files = [flow.makefile("rwb") for flow in flows]
names = {file.readline().decode().strip() for file in files}
for number, file in enumerate(files):
    file.write(f"{number} {'x' * 5000}\\n".encode())
    file.flush()
for number, file in enumerate(files):
    assert file.readline() == f"{number} {'x' * 5000}\\n".encode(), number
print(*names)
"""
UDP = """\
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as client:
    client.settimeout(2)
    for attempt in range(5):
        client.sendto(b"ping", (sys.argv[1], 7))
        try:
            answer, peer = client.recvfrom(2048)
        except TimeoutError:
            continue
        print(answer.decode(), "from", peer[0])
        break
"""


def another_name(letter):
    """Name of a lab for one test; `clean_machine` of a later run recognizes it."""
    return f"{letter}{os.getpid()}"


@pytest.fixture(scope="module")
def bare_lab(clean_machine, lab_cache):
    """A lab of hosts and guests only, for tests that leave it as it was."""
    lab = Lab(another_name("bare"), lab_cache)
    lab.up(services=False)
    yield lab
    lab.down()


@pytest.fixture
def other_lab(clean_machine, lab_cache, bare_lab):
    """A lab that is not up yet, for tests that ruin it; the cache is full."""
    lab = Lab(another_name("other"), lab_cache)
    yield lab
    lab.down()


def talk(lab, script, *arguments):
    return lab.host("client").run([sys.executable, "-c", script, *arguments]).stdout


def run_command(lab, *arguments):
    command = [*COMMAND, "--name", lab.name, "--cache", str(lab.cache.path), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)


def serve(lab):
    """Bring a lab up with its services and a pool that is used; its processes."""
    lab.up()
    assert get(lab, Cloud(lab).pool(["vm1", "vm3"])) == "vm1"
    return [one for one in lab.remains() if isinstance(one, ProcessId)]


def machine_state():
    """Mounts, links and the files of packages that a lab might touch.

    Other labs may come and go meanwhile: pins are left to `Lab.remains`, which knows whose they
    are.
    """
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True)
    files = [path for root in PRIVATE_DIRECTORIES for path in sorted(Path(root).rglob("*"))]
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return links.stdout, files, sorted(path for path in mounts if not path.startswith(str(PINS)))


@pytest.mark.parametrize(("name", "address"), ADDRESSES)
def test_guest_answers_http_from_each_of_its_addresses(bare_lab, name, address):
    server, _, body = talk(bare_lab, HTTP, address, "GET", "/", "0").partition("\n")
    answer = json.loads(body)
    assert (server, answer["server"], answer["address"]) == (name, name, address)


@pytest.mark.parametrize(("name", "address"), ADDRESSES)
def test_guest_echoes_tcp(bare_lab, name, address):
    assert talk(bare_lab, TCP, address, "20") == f"{name}\n"


@pytest.mark.parametrize(("name", "address"), ADDRESSES)
def test_guest_answers_udp(bare_lab, name, address):
    assert talk(bare_lab, UDP, address) == f"{name} ping from {address}\n"


def test_guest_holds_a_thousand_connections(bare_lab):
    assert talk(bare_lab, TCP, "10.60.0.11", "1000") == "vm1\n"


def test_guest_sends_the_pattern(bare_lab):
    process = bare_lab.host("client").popen(
        [sys.executable, "-c", HTTP, "10.60.0.12", "GET", "/bytes/1000000", "0"]
    )
    output, _ = process.communicate(timeout=60)
    assert output == b"vm2\n" + bytes(i % 251 for i in range(1_000_000))


def test_guest_answers_a_body_with_its_checksum(bare_lab):
    output = talk(bare_lab, HTTP, "fd60::13", "POST", "/", "300000")
    expected = zlib.crc32(bytes(i % 256 for i in range(300_000)))
    answer = json.loads(output.partition("\n")[2])
    assert answer == {"server": "vm3", "length": 300_000, "crc32": expected}


@pytest.mark.parametrize("vip", ["10.60.0.130", "fd60::f005"])
def test_guest_answers_udp_from_a_vip_on_lo(bare_lab, vip):
    guest = bare_lab.guest("vm4")
    client = bare_lab.host("client")
    family = "-6" if ":" in vip else "-4"
    length = 128 if ":" in vip else 32
    hop = guest.spec.ipv6 if ":" in vip else guest.spec.ipv4
    guest.run(["ip", "address", "add", f"{vip}/{length}", "dev", "lo"])
    client.run(["ip", family, "route", "add", vip, "via", str(hop)])
    try:
        assert talk(bare_lab, UDP, vip) == f"vm4 ping from {vip}\n"
    finally:
        client.run(["ip", family, "route", "delete", vip])
        guest.run(["ip", "address", "delete", f"{vip}/{length}", "dev", "lo"])


def test_guest_command_gives_output_errors_and_status(bare_lab):
    done = bare_lab.guest("vm1").run(["sh", "-c", "echo out; echo err >&2; exit 7"], check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_failing_guest_command_is_an_error_that_shows_its_output(bare_lab):
    with pytest.raises(LabError, match=r"in vm1 ended with 1: .*nowhere"):
        bare_lab.guest("vm1").run(["ls", "/nowhere"])


def test_exec_passes_output_and_status_of_host_and_guest(bare_lab):
    on_host = run_command(bare_lab, "exec", "client", "sh", "-c", "hostname; exit 3")
    in_guest = run_command(bare_lab, "exec", "vm2", "sh", "-c", "hostname; exit 4")
    assert (on_host.returncode, on_host.stdout) == (3, "client\n")
    assert (in_guest.returncode, in_guest.stdout) == (4, "vm2\n")


def test_exec_on_an_unknown_host_names_those_that_exist(bare_lab):
    done = run_command(bare_lab, "exec", "nova", "true")
    assert done.returncode == 1
    assert all(host.name in done.stderr for host in HOSTS)
    assert all(guest.name in done.stderr for guest in GUESTS)


def test_status_shows_hosts_services_and_guests(bare_lab):
    output = run_command(bare_lab, "status").stdout
    assert all(host.name in output for host in HOSTS)
    assert output.count("libvirtd   runs") == 2
    assert "vm3        runs on compute2" in output


def test_second_up_says_that_the_lab_runs_and_what_to_do(bare_lab):
    done = run_command(bare_lab, "up")
    assert done.returncode == 1
    assert f"cloudlb-lab --name {bare_lab.name} down" in done.stderr


def test_hosts_have_private_directories_and_bpffs(bare_lab):
    one, two = bare_lab.host("compute1"), bare_lab.host("compute2")
    for directory in PRIVATE_IN_HOSTS:
        one.run(["mkdir", f"{directory}/of-compute1"])
        assert "of-compute1" not in two.run(["ls", directory]).stdout
        assert not Path(directory, "of-compute1").exists()
        one.run(["rmdir", f"{directory}/of-compute1"])


def test_sysfs_of_a_host_shows_its_own_links(bare_lab):
    links = bare_lab.host("compute1").run(["ls", "/sys/class/net"]).stdout.split()
    assert {"br0", "eth0", "mgmt0"} <= set(links)


def test_tenants_do_not_reach_the_management_network(bare_lab):
    done = bare_lab.guest("vm1").run(["ping", "-c", "1", "-W", "1", "10.61.0.1"], check=False)
    assert done.returncode != 0


def test_destroyed_guest_boots_again(bare_lab):
    guest = bare_lab.guest("vm3")
    guest.destroy()
    assert guest.host is None
    guest.start()
    assert guest.host.name == "compute2"
    assert talk(bare_lab, TCP, "10.60.0.13", "1") == "vm3\n"


def test_killed_guest_is_off_and_boots_again(bare_lab):
    guest = bare_lab.guest("vm2")
    guest.process.send(signal.SIGKILL)
    wait_for("vm2 is off", lambda: guest.host is None, 20)
    guest.start()
    assert talk(bare_lab, TCP, "fd60::12", "1") == "vm2\n"


def test_command_that_does_not_end_is_an_error_that_names_it(bare_lab):
    with pytest.raises(DeadlineError, match="sleep 9' on client not within"):
        bare_lab.host("client").run(["sleep", "9"], timeout=0.2)


def test_killed_service_is_dead_until_it_is_started(bare_lab):
    daemon = bare_lab.host("compute1").service("libvirtd")
    daemon.kill()
    assert not daemon.alive()
    daemon.start()
    assert daemon.alive()
    wait_for("libvirtd knows vm1", lambda: bare_lab.guest("vm1").host is not None, 20)


def test_two_labs_share_saved_images_and_nothing_else(bare_lab, other_lab):
    other_lab.up(services=False)
    boot_times = {
        lab.guest("vm1").run(["stat", "-c", "%Z", "/run"]).stdout for lab in (bare_lab, other_lab)
    }
    assert len(boot_times) == 1
    other_lab.guest("vm1").run(["touch", "/here"])
    assert bare_lab.guest("vm1").run(["ls", "/here"], check=False).returncode != 0


def test_up_of_a_running_lab_is_refused_and_leaves_it_alone(bare_lab):
    with pytest.raises(AlreadyRunningError):
        Lab(bare_lab.name, bare_lab.cache.path).up(services=False)
    assert bare_lab.is_up()


def test_down_of_a_lab_that_serves_leaves_the_machine_as_it_was(other_lab):
    before = machine_state()
    processes = serve(other_lab)
    services = [service for host in other_lab.hosts for service in host.services]
    assert len(processes) >= len(HOSTS) + len(services) + len(GUESTS)
    other_lab.down()
    assert other_lab.remains() == []
    assert [process for process in processes if process.alive()] == []
    assert machine_state() == before


def test_up_cleans_what_killed_holders_have_left(other_lab):
    before = machine_state()
    processes = serve(other_lab)
    holders = [host.holder for host in other_lab.hosts]
    for holder in holders:
        assert holder.send(signal.SIGKILL)
    assert wait_gone(holders, 10) == []
    again = Lab(other_lab.name, other_lab.cache.path)
    assert not again.is_up()
    again.up(services=False)
    assert [process for process in processes if process.alive()] == []
    assert talk(again, TCP, "10.60.0.14", "1") == "vm4\n"
    again.down()
    assert again.remains() == []
    assert machine_state() == before


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)]
)
def test_up_that_is_ended_leaves_nothing_or_is_cleaned_by_down(other_lab, number, status):
    command = [*COMMAND, "--name", other_lab.name, "--cache", str(other_lab.cache.path)]
    images = {path.stat().st_ino for path in other_lab.cache.path.glob("saved/*")}
    up = subprocess.Popen([*command, "up", "--no-services"], stderr=subprocess.PIPE)
    guests = other_lab.state / "compute2" / "guests" / "vm3"
    wait_for("the first guest", guests.exists, 60)
    up.send_signal(number)
    _, errors = up.communicate(timeout=60)
    assert up.returncode == status, errors
    if number is signal.SIGKILL:
        assert other_lab.remains() != []
        assert run_command(other_lab, "down").returncode == 0
    assert other_lab.remains() == []
    assert {path.stat().st_ino for path in other_lab.cache.path.glob("saved/*")} == images


def test_services_of_a_lab_run_and_the_openstack_command_sees_the_hosts(lab):
    for host in lab.hosts:
        assert [service.name for service in host.services if not service.alive()] == []
    names = json.loads(lab.openstack(["anycast", "host", "list", "-f", "json"]).stdout)
    assert {row["Name"] for row in names} == {"director", "compute1", "compute2"}
