# SPDX-License-Identifier: Apache-2.0
"""The commands of `cloudlb-lab`."""

import argparse
import os
import sys
from pathlib import Path

from cloudlb.lab.errors import LabError, UnknownNameError
from cloudlb.lab.guest import Guest
from cloudlb.lab.host import Host
from cloudlb.lab.image import DEFAULT_CACHE
from cloudlb.lab.lab import DEFAULT_NAME, Lab
from cloudlb.lab.topology import MORE_HOSTS

EXEC_SECONDS = 600.0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; `action` is the function to call."""
    top = argparse.ArgumentParser(
        prog="cloudlb-lab",
        description="Hosts, guests and cloudlb itself on one machine, in network namespaces.",
    )
    top.add_argument("--name", default=DEFAULT_NAME, help="lab, and prefix of its namespaces")
    top.add_argument(
        "--cache", type=Path, default=DEFAULT_CACHE, help="kernel and saved guests (%(default)s)"
    )
    actions = top.add_subparsers(required=True, metavar="COMMAND")

    up = actions.add_parser("up", help="bring the lab up")
    up.add_argument("--no-services", action="store_true", help="hosts and guests only")
    up.set_defaults(action=_up)

    actions.add_parser("status", help="show what runs").set_defaults(action=_status)

    execute = actions.add_parser("exec", help="run a command on a host or in a guest")
    execute.add_argument("host", metavar="HOST", help="a host or a guest")
    execute.add_argument("command", nargs=argparse.REMAINDER, help="on a host, by default a shell")
    execute.set_defaults(action=_exec)

    add = actions.add_parser("add", help="plug one more host into a lab that is up")
    add.add_argument("host", choices=[spec.name for spec in MORE_HOSTS])
    add.set_defaults(action=_add)

    down = actions.add_parser("down", help="remove the lab")
    down.add_argument("--purge", action="store_true", help="remove the cache as well")
    down.set_defaults(action=_down)
    return top


def _up(lab: Lab, options: argparse.Namespace) -> int:
    lab.up(services=not options.no_services, report=_say)
    return 0


def _add(lab: Lab, options: argparse.Namespace) -> int:
    lab.must_be_up()
    if options.host in [host.name for host in lab.hosts]:
        raise LabError(f"{options.host} is there already")
    lab.add_host(next(spec for spec in MORE_HOSTS if spec.name == options.host))
    return 0


def _down(lab: Lab, options: argparse.Namespace) -> int:
    lab.down(purge=options.purge)
    return 0


def _status(lab: Lab, options: argparse.Namespace) -> int:
    lab.must_be_up()
    for host in lab.hosts:
        _say(_host_line(host))
        for service in host.services:
            if service.process is not None:
                state = "runs" if service.alive() else "ended"
                _say(
                    f"    {service.name:<10} {state:<6} pid {service.process.pid:<8} {service.log}"
                )
    for guest in lab.guests:
        _say(_guest_line(guest))
    return 0


def _exec(lab: Lab, options: argparse.Namespace) -> int:
    lab.must_be_up()
    names = [*(host.name for host in lab.hosts), *(guest.name for guest in lab.guests)]
    if options.host not in names:
        raise UnknownNameError("host or guest", options.host, names)
    words = options.command[1:] if options.command[:1] == ["--"] else options.command
    if options.host in {guest.name for guest in lab.guests}:
        return _exec_in_guest(lab.guest(options.host), words)
    terminal = {"TERM": os.environ.get("TERM", "dumb")}
    command = lab.host(options.host).enter(words or ["bash"], terminal)
    sys.stdout.flush()
    os.execvp(command[0], command)  # noqa: S606 - the command takes this program's place


def _exec_in_guest(guest: Guest, command: list[str]) -> int:
    if not command:
        raise LabError(f"{guest.name} has no terminal; give a command to run in it")
    done = guest.run(command, check=False, timeout=EXEC_SECONDS)
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.returncode


def _host_line(host: Host) -> str:
    addresses = [str(host.spec.management)]
    if host.spec.on_lan:
        addresses += [str(host.spec.lan4), str(host.spec.lan6)]
    return f"{host.name:<10} pid {host.pid:<8} {host.namespace:<16} {' '.join(addresses)}"


def _guest_line(guest: Guest) -> str:
    host = guest.host
    state = f"runs on {host.name}" if host else "is off"
    return f"{guest.name:<10} {state:<18} {guest.spec.ipv4} {guest.spec.ipv6} {guest.spec.mac}"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
