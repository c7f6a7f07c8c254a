# SPDX-License-Identifier: Apache-2.0
"""The main job of cloudlb, for real, on this machine: hosts, guests, pools, traffic and faults.

``make demo`` runs it. Every step says what it does and checks what it sees; the first thing that
is not as it should be ends the demo with status 1, after everything was removed.
"""

import argparse
import json
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cloudlb.lab.errors import LabError
from cloudlb.lab.image import DEFAULT_CACHE
from cloudlb.lab.lab import Lab
from cloudlb.lab.load import harm
from cloudlb.lab.topology import (
    LAN,
    LAN_NETWORK4,
    LAN_NETWORK6,
    VIP_RANGE4,
    VIP_RANGE6,
)
from cloudlb.lab.traffic import Load

POOLS = {"web4": 4, "web6": 6}
FIRST_MEMBERS = ("vm1", "vm2", "vm3")
SURVIVORS = {"vm2", "vm3"}
AT_ONCE = 2
REQUESTS = 100
SETTLE_SECONDS = 20.0


class Demo:
    """The steps, in order; each raises `LabError` when something is not as it should be."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.addresses: dict[str, str] = {}

    def run(self) -> None:
        """All chapters; the lab is removed whatever happens, unless it was there before."""
        self.bring_up()
        try:
            for chapter in (
                self.make_pools,
                self.give_addresses,
                self.ask,
                self.kill_a_guest,
                self.kill_the_agent,
                self.change_members_under_load,
                self.show_counters,
                self.remove_all,
            ):
                chapter()
        finally:
            self.lab.down()

    def bring_up(self) -> None:
        """Hosts, guests, services."""
        title("A cloud on this machine")
        say("A client, a director and two compute hosts, each in its own network namespace;")
        say("two guests on each compute host under its own libvirtd; API, conductor, RabbitMQ")
        say("and an agent on each host.")
        self.lab.up(report=lambda line: say(f"  {line}"))

    def make_pools(self) -> None:
        """The operator's part."""
        title("An operator makes a network and two pools, with the openstack command")
        self.openstack(
            f"anycast network create {LAN} --subnet {LAN_NETWORK4} --subnet {LAN_NETWORK6} "
            f"--vip-range {VIP_RANGE4} --vip-range {VIP_RANGE6} -f value -c name -c vip_range"
        )
        members = " ".join(f"--member {name}" for name in FIRST_MEMBERS)
        for name, version in POOLS.items():
            self.openstack(
                f"anycast pool create {name} --network {LAN} --ip-version {version} "
                f"--port tcp:80 --port tcp:7 {members} --monitor type=tcp --wait "
                "-f value -c name -c address"
            )
            self.addresses[name] = self.ask_api("anycast", "pool", "show", name)["address"]

    def give_addresses(self) -> None:
        """The members' part."""
        title("The guests get the pools' addresses, and nothing else")
        say("No sysctl, no tunnel, no agent in the guest: the guard at its tap keeps it from")
        say("answering ARP and neighbour solicitations, so that only the director is heard.")
        for guest in self.lab.guests:
            for address in self.addresses.values():
                length = 128 if ":" in address else 32
                guest.run(["ip", "address", "add", f"{address}/{length}", "dev", "eth0"])
        say("  ip address add … dev eth0   in " + ", ".join(g.name for g in self.lab.guests))
        for name in POOLS:
            self.wait_health(name, "online")

    def ask(self) -> None:
        """Requests, one after the other: round robin is seen exactly."""
        title(f"The client asks {REQUESTS} times in each family")
        for name in POOLS:
            result = Load.count(self.lab, self.url(name), REQUESTS)
            show(name, self.url(name), result)
            expect(result["failed"] == 0, f"{result['failed']} requests failed", result)
            spread = result["servers"].values()
            expect(len(spread) == 3 and max(spread) - min(spread) <= 1, "not round robin", result)

    def kill_a_guest(self) -> None:
        """A member dies without a word."""
        title("vm1 is switched off like a machine whose power is cut; requests go on")
        with Load.requests(self.lab, self.url("web4"), AT_ONCE) as load:
            self.lab.guest("vm1").destroy()
            died = time.monotonic()
            self.wait_health("web4", "degraded")
            say(f"  the pool knows after {time.monotonic() - died:.1f} s")
            after = Load.count(self.lab, self.url("web4"), REQUESTS)
        show("web4", "while it died", load.result)
        expect(set(load.result["servers"]) >= SURVIVORS, "requests do not go on", load.result)
        expect(load.result["failed"] <= AT_ONCE, "more fail than vm1 had", load.result)
        show("web4", "afterwards", after)
        expect(not harm(after), "requests fail after the member was taken out", after)
        expect(set(after["servers"]) == SURVIVORS, "others serve than those that live", after)

    def kill_the_agent(self) -> None:
        """The data plane does not need the agent."""
        title("The director's agent is killed with SIGKILL under load")
        agent = self.lab.host("director").service("agent")
        with (
            Load.requests(self.lab, self.url("web4")) as four,
            Load.requests(self.lab, self.url("web6")) as six,
        ):
            time.sleep(2)
            agent.kill()
            say("  killed; programs and maps stay in the kernel and go on")
            time.sleep(3)
            agent.start()
            self.lab.wait_agent("director")
            say("  started again: it adopts what it finds and changes nothing")
            time.sleep(1)
        for name, load in (("web4", four), ("web6", six)):
            show(name, "killed and started", load.result)
            expect(not harm(load.result), harm(load.result), load.result)

    def change_members_under_load(self) -> None:
        """Connections stick to their member for their whole life."""
        title("vm4 is added and vm2 removed while 40 connections talk; none may break")
        with Load.flows(self.lab, self.addresses["web4"], 40) as load:
            self.openstack(
                "anycast pool member create web4 --server vm4 --wait -f value -c name -c host"
            )
            time.sleep(1)
            self.openstack("anycast pool member delete web4 vm2")
            time.sleep(4)
            new = Load.count(self.lab, self.url("web4"), 30)
        result = load.result
        say(
            f"  {result['flows']} connections to {', '.join(result['servers'])}: "
            f"{result['exchanges']} checked exchanges, {result['broken']} broken"
        )
        expect(not harm(result), harm(result), result)
        show("web4", "new connections meanwhile", new)
        expect(set(new["servers"]) == {"vm3", "vm4"} and not new["failed"], "wrong members", new)

    def show_counters(self) -> None:
        """What passed."""
        title("Counters, per member")
        say(self.openstack("anycast pool stats web6", show_output=False))
        total = self.ask_api("anycast", "pool", "stats", "web6")
        counted = sum(row["Connections"] for row in total if row["Name"] != "total")
        expect(counted >= REQUESTS, f"only {counted} connections were counted", {})

    def remove_all(self) -> None:
        """Nothing is left."""
        title("Everything is removed")
        for name in POOLS:
            self.openstack(f"anycast pool delete {name}")
        wait_until(
            "the pools are gone",
            lambda: self.ask_api("anycast", "pool", "list") == [],
        )
        self.openstack(f"anycast network delete {LAN}")
        self.lab.down()
        left = self.lab.remains()
        expect(not left, f"the lab has left {left}", {})
        say("  hosts, guests, services and files are gone")

    def openstack(self, line: str, show_output: bool = True) -> str:
        """Run the real command on the control host, as an operator would."""
        say(f"  $ openstack {line}")
        output = self.lab.openstack(shlex.split(line), timeout=90).stdout.rstrip()
        if show_output and output:
            say("\n".join(f"    {row}" for row in output.splitlines()))
        return output

    def ask_api(self, *words: str) -> Any:
        """The answer of a command as data."""
        return json.loads(self.lab.openstack([*words, "-f", "json"], timeout=60).stdout)

    def wait_health(self, name: str, state: str) -> None:
        """Wait until a pool's health is as expected."""

        def reached() -> bool:
            status = self.ask_api("anycast", "pool", "show", name)["status"]
            return f"health: {state}" in json.dumps(status) or (
                isinstance(status, dict) and status["health"]["state"] == state
            )

        wait_until(f"pool {name} is {state}", reached)

    def url(self, name: str) -> str:
        """Where a pool serves."""
        address = self.addresses[name]
        return f"http://[{address}]/" if ":" in address else f"http://{address}/"


def title(text: str) -> None:
    """Begin a chapter."""
    say(f"\n== {text}")


def say(text: str) -> None:
    """Tell the reader."""
    print(text, flush=True)


def show(name: str, what: str, result: dict[str, Any]) -> None:
    """Who answered."""
    servers = "  ".join(f"{server} {count}" for server, count in result["servers"].items())
    say(f"  {name} {what}: {result['requests']} requests, {result['failed']} failed   {servers}")


def expect(holds: bool, otherwise: str, evidence: dict[str, Any]) -> None:
    """LabError with the evidence unless it holds."""
    if not holds:
        shown = {key: value for key, value in evidence.items() if key != "order"}
        raise LabError(f"{otherwise}: {shown}" if shown else otherwise)


def wait_until(what: str, holds: Callable[[], bool], seconds: float = SETTLE_SECONDS) -> None:
    """Wait for a condition; LabError that names it when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise LabError(f"waited {seconds:g} s in vain: {what}")
        time.sleep(0.2)


def main() -> int:
    """Run the demo; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--name", default="demo", help="name of the lab (%(default)s)")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="(%(default)s)")
    options = parser.parse_args()
    lab = Lab(options.name, options.cache)
    began = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        Demo(lab).run()
    except (LabError, RuntimeError, KeyboardInterrupt) as error:
        print(f"\nThe demo failed: {error or 'interrupted'}", file=sys.stderr)
        return 1
    say(f"\nAll as it should be, in {time.monotonic() - began:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
