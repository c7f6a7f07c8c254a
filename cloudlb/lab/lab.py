# SPDX-License-Identifier: Apache-2.0
"""The lab as a whole: up, down, and the way to its hosts and guests."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cloudlb.lab import accelerator, broker, hypervisor, network, services, teardown
from cloudlb.lab.api import Api
from cloudlb.lab.errors import (
    AlreadyRunningError,
    LabError,
    MissingProgramError,
    NotRunningError,
    UnknownNameError,
)
from cloudlb.lab.guest import Guest
from cloudlb.lab.host import HOLDER, Host
from cloudlb.lab.image import DEFAULT_CACHE, Cache, Image
from cloudlb.lab.process import ProcessId, in_network_namespace
from cloudlb.lab.record import STATE_ROOT, Record
from cloudlb.lab.topology import (
    CONTROL,
    GUESTS,
    HOSTS,
    MORE_HOSTS,
    SWITCH,
    HostSpec,
    Role,
    hosts_file,
)

DEFAULT_NAME = "clb"
_NAME = re.compile(r"[a-z][a-z0-9]{0,15}")
PROGRAMS = {
    "ip": "iproute2",
    "nsenter": "util-linux",
    "keepalived": "keepalived",
    "busybox": "busybox-static",
    "cpio": "cpio",
    "curl": "curl",
    "gcc": "gcc",
    "libvirtd": "libvirt-daemon",
    "virsh": "libvirt-clients",
    "qemu-system-x86_64": "qemu-system-x86",
    "/usr/lib/rabbitmq/bin/rabbitmq-server": "rabbitmq-server",
}
"""Programs that the lab runs and Debian's packages that have them."""

Report = Callable[[str], None]


class Lab:
    """A lab by its name, whether it is up or not; several may be up at once."""

    def __init__(self, name: str = DEFAULT_NAME, cache: Path = DEFAULT_CACHE) -> None:
        if not _NAME.fullmatch(name):
            raise LabError(
                f"lab name {name!r}: up to 16 lower-case letters and digits, a letter first"
            )
        self.name = name
        self.cache = Cache(cache.absolute())
        self.state = STATE_ROOT / name
        self._read_record()

    @property
    def hosts(self) -> list[Host]:
        """All hosts."""
        return list(self._hosts.values())

    @property
    def guests(self) -> list[Guest]:
        """All guests."""
        return list(self._guests.values())

    def host(self, name: str) -> Host:
        """Return a host by its name."""
        if name not in self._hosts:
            raise UnknownNameError("host", name, list(self._hosts))
        return self._hosts[name]

    def guest(self, name: str) -> Guest:
        """Return a guest by its name."""
        if name not in self._guests:
            raise UnknownNameError("guest", name, list(self._guests))
        return self._guests[name]

    def hosts_of(self, *roles: Role) -> list[Host]:
        """Return the hosts that have one of the roles."""
        return [host for host in self.hosts if host.spec.role in roles]

    def is_up(self) -> bool:
        """Whether the last `up` was completed and all hosts are still there."""
        return self.record.complete and all(host.alive() for host in self.hosts)

    def must_be_up(self) -> None:
        """Raise NotRunningError unless the lab is up."""
        if not self.is_up():
            raise NotRunningError(self.name)

    @property
    def api(self) -> Api:
        """The lab's API, asked from the control host."""
        return Api(self.host(CONTROL.name))

    def openstack(
        self, arguments: Sequence[str], *, check: bool = True, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run the `openstack` command on the control host against the lab's API."""
        control = self.host(CONTROL.name)
        return control.run(["openstack", *arguments], check=check, timeout=timeout)

    def up(self, services: bool = True, report: Report = lambda line: None) -> None:
        """Bring the lab up; what a crashed run has left is removed first.

        On any failure, a signal included, everything is removed again.
        """
        check_machine(services)
        with self._exclusively():
            self._read_record()
            if self.is_up():
                raise AlreadyRunningError(self.name)
            self._remove()
            try:
                self._build(services, report)
            except BaseException:
                self._remove()
                raise

    def add_host(self, spec: HostSpec) -> Host:
        """Plug one more host into a lab that is up, and start its agent."""
        host = self._hosts[spec.name] = self._host(spec)
        host.hold(self.cache.path)
        host.wait_held()
        network.plug(self.name, spec)
        services.configure(host)
        host.service(services.AGENT).start()
        services.wait_agents(self.host(CONTROL.name), [host])
        return host

    def wait_agent(self, name: str) -> None:
        """Wait until a host's agent, started just now, speaks and has what is wanted of it."""
        services.wait_agent(self.host(CONTROL.name), name)

    def remove_host(self, name: str) -> None:
        """Pull all plugs of a host at once, and forget it; the control plane is not told."""
        host = self._hosts.pop(name)
        teardown.remove_host(host.namespace)
        self.record.forget(name)

    def down(self, purge: bool = False) -> None:
        """Remove the lab; the cache stays unless it is purged."""
        with self._exclusively():
            self._read_record()
            cache = Cache(Path(self.record.cache)) if self.record.cache else self.cache
            self._remove()
            if purge:
                cache.purge()

    def remains(self) -> list[Path | ProcessId]:
        """What there still is of the lab: pins of namespaces, processes in them, files."""
        pins = teardown.namespace_pins(self.name)
        processes = [process for pin in pins for process in in_network_namespace(pin)]
        return [*pins, *processes, *([self.state] if self.state.exists() else [])]

    def _read_record(self) -> None:
        self.record = Record.load(self.state / "record.json")
        self._use_record()

    def _use_record(self) -> None:
        added = [s for s in MORE_HOSTS if f"{s.name}/{HOLDER}" in self.record.processes]
        self._hosts = {spec.name: self._host(spec) for spec in (*HOSTS, *added)}
        self._hosts[CONTROL.name].environment = services.OPENSTACK_ENVIRONMENT
        compute = self.hosts_of(Role.COMPUTE)
        self._guests = {spec.name: Guest(spec, compute) for spec in GUESTS}

    def _host(self, spec: HostSpec) -> Host:
        host = Host(self.name, spec, self.state, self.record)
        host.add_services(services.specs(spec, services.config_path(host.state)))
        return host

    def _remove(self) -> None:
        teardown.remove(self.name, self.record)
        self._read_record()

    def _build(self, with_services: bool, report: Report) -> None:
        began = time.monotonic()
        with _parallel() as pool:
            with _stage("hosts", report):
                self._make_hosts()
            if with_services:
                broker.start(self.host(CONTROL.name))
            for host in self.hosts_of(Role.COMPUTE):
                hypervisor.start(host)
            with _stage("image", report):
                image = self.cache.image()
                chosen = accelerator.choose(self.cache, image)
            control_plane = pool.submit(self._start_control_plane, with_services, report)
            with _stage(f"guests ({chosen.name})", report):
                self._provide_guests(pool, image, chosen)
            control_plane.result()
            if with_services:
                with _stage("agents", report):
                    self._start_agents()
        self.record.set_complete()
        report(f"{'lab ' + self.name + ' is up':<24} {time.monotonic() - began:6.1f} s")

    def _make_hosts(self) -> None:
        self.state.mkdir(parents=True)
        (self.state / "hosts").write_text(hosts_file())
        self.cache.path.mkdir(parents=True, exist_ok=True)
        self.record.cache = str(self.cache.path)
        switch = network.namespace(self.name, SWITCH)
        self.record.add_namespace(switch)
        subprocess.run(["ip", "netns", "add", switch], check=True)
        for host in self.hosts:
            host.hold(self.cache.path)
        for host in self.hosts:
            host.wait_held()
        network.connect(self.name, HOSTS)

    def _provide_guests(
        self, pool: ThreadPoolExecutor, image: Image, chosen: accelerator.Accelerator
    ) -> None:
        def provide_on(host: Host) -> None:
            hypervisor.wait_ready(host)
            for guest in self.guests:
                if guest.home is host:
                    guest.provide(self.cache, image, chosen)

        list(pool.map(provide_on, self.hosts_of(Role.COMPUTE)))

    def _start_control_plane(self, with_services: bool, report: Report) -> None:
        if not with_services:
            return
        control = self.host(CONTROL.name)
        with _stage("control plane", report):
            for host in self.hosts:
                services.configure(host)
            services.start_control_plane(control)
            services.wait_control_plane(control)

    def _start_agents(self) -> None:
        hosts = self.hosts_of(Role.DIRECTOR, Role.COMPUTE)
        for host in hosts:
            host.service(services.AGENT).start()
        services.wait_agents(self.host(CONTROL.name), hosts)

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Hold an abstract socket as a lock: it leaves no file and ends with this process."""
        with socket.socket(socket.AF_UNIX) as lock:
            try:
                lock.bind(f"\0cloudlb-lab/{self.name}")
            except OSError as error:
                raise AlreadyRunningError(self.name, "is being worked on") from error
            yield


@contextlib.contextmanager
def _stage(name: str, report: Report) -> Iterator[None]:
    began = time.monotonic()
    yield
    report(f"{name:<24} {time.monotonic() - began:6.1f} s")


@contextlib.contextmanager
def _parallel() -> Iterator[ThreadPoolExecutor]:
    """Give a pool that is not waited for after a failure: the clean-up ends what it waits for."""
    pool = ThreadPoolExecutor(max_workers=8)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def check_machine(with_services: bool = True) -> None:
    """Raise a LabError that says what is missing for a lab on this machine."""
    if os.geteuid() != 0:
        raise LabError("the lab makes namespaces and needs root; run it with sudo")
    wanted: Iterable[str] = (
        program for program in PROGRAMS if with_services or "rabbitmq" not in program
    )
    missing = [program for program in wanted if shutil.which(program) is None]
    if missing:
        raise MissingProgramError(missing, sorted(PROGRAMS[program] for program in missing))
