# SPDX-License-Identifier: Apache-2.0
"""A connection to libvirt's own test driver: domains, their events, and its absence."""

import threading
import time
from collections.abc import Iterator
from uuid import UUID

import libvirt
import pytest

from cloudlb.model.ether import Mac
from cloudlb.model.host import Owner
from cloudlb.virt import host
from cloudlb.virt.host import Libvirt
from cloudlb.virt.xml import Domain, DomainInterface

XML = """<domain type='test'><name>{name}</name><uuid>{id}</uuid><memory>1024</memory>
<os><type>hvm</type></os>
<metadata><c:server xmlns:c='urn:cloudlb:server:1' project='p'/></metadata>
<devices><interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/>
<target dev='tap1'/></interface></devices></domain>"""
GUEST = UUID(int=0x11)


class Host:
    """The service under test, in its thread, and an administrator's own connection."""

    def __init__(self, uri: str) -> None:
        self.changed = threading.Event()
        self.libvirt = Libvirt(uri, self.changed.set)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.libvirt.run, args=(self.stopping,))
        self.thread.start()

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join(10)
        assert not self.thread.is_alive()

    def named(self, name: str) -> tuple[Domain, bool] | None:
        """A domain and whether it runs."""
        found = self.libvirt.domains()
        assert found is not None
        return next(((d, on) for d, on in found.items() if d.name == name), None)


@pytest.fixture
def connected() -> Iterator[Host]:
    """A service that is connected to the test driver."""
    made = Host("test:///default")
    assert made.changed.wait(10), "no connection"
    made.changed.clear()
    yield made
    made.stop()


@pytest.fixture
def admin() -> Iterator[libvirt.virConnect]:
    """Another connection, which leaves nothing behind."""
    connection = libvirt.open("test:///default")
    yield connection
    for domain in connection.listAllDomains():
        if domain.name() == "guest":
            if domain.isActive():
                domain.destroy()
            domain.undefine()
    connection.close()


def test_domains_are_described(connected: Host, admin: libvirt.virConnect) -> None:
    admin.defineXML(XML.format(name="guest", id=GUEST))
    interface = DomainInterface(Mac("52:54:00:00:00:01"), "tap1", "br0")
    assert connected.named("guest") == (
        Domain(GUEST, "guest", Owner.LIBVIRT, "p", (interface,)),
        False,
    )


def test_starts_and_stops_are_told_and_seen(connected: Host, admin: libvirt.virConnect) -> None:
    domain = admin.defineXML(XML.format(name="guest", id=GUEST))
    assert connected.changed.wait(10), "the definition was not told"
    for act, runs in ((domain.create, True), (domain.destroy, False)):
        connected.changed.clear()
        act()
        assert connected.changed.wait(10), "the change was not told"
        found = connected.named("guest")
        assert found is not None
        assert found[1] is runs
    connected.changed.clear()
    domain.undefine()
    assert connected.changed.wait(10), "the removal was not told"
    assert connected.named("guest") is None


@pytest.mark.parametrize(
    ("network", "bridge"), [("default", "virbr0"), ("lan", "br0"), ("nowhere", "")]
)
def test_a_domain_that_is_off_has_the_bridge_of_its_network(
    connected: Host, admin: libvirt.virConnect, network: str, bridge: str
) -> None:
    admin.networkDefineXML(
        "<network><name>lan</name><forward mode='bridge'/><bridge name='br0'/></network>"
    )
    plugged = (
        XML.replace("type='bridge'", "type='network'")
        .replace("<source bridge='br0'/>", f"<source network='{network}'/>")
        .replace("<target dev='tap1'/>", "")
    )
    admin.defineXML(plugged.format(name="guest", id=GUEST))
    found = connected.named("guest")
    admin.networkLookupByName("lan").undefine()
    assert found is not None
    domain, runs = found
    assert not runs
    assert [(nic.bridge, nic.network) for nic in domain.interfaces] == [(bridge, network)]


def test_there_are_no_domains_without_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_RETRY", 0.01)
    absent = Host("qemu+unix:///system?socket=/nowhere")
    assert absent.libvirt.domains() is None
    absent.stop()
    assert not absent.changed.is_set()


def test_a_connection_that_was_lost_comes_back_and_both_are_told(
    connected: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = threading.Semaphore(0)
    monkeypatch.setattr(host, "_RETRY", 0.01)
    monkeypatch.setattr(connected.libvirt, "_changed", told.release)
    connected.libvirt._closed(None, libvirt.VIR_CONNECT_CLOSE_REASON_EOF, None)
    for event in ("loss", "return"):
        assert told.acquire(timeout=10), f"the {event} was not told"
    deadline = time.monotonic() + 10  # what was told first may have been the fixture's connection
    while connected.libvirt.domains() is None:
        assert time.monotonic() < deadline, "the connection did not come back"
        time.sleep(0.005)


def test_a_domain_that_goes_while_it_is_asked_is_left_out(
    connected: Host, admin: libvirt.virConnect, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin.defineXML(XML.format(name="guest", id=GUEST))
    listed = libvirt.virConnect.listAllDomains

    def list_and_remove(connection: libvirt.virConnect, flags: int = 0) -> list[object]:
        found: list[object] = listed(connection, flags)
        admin.lookupByName("guest").undefine()
        return found

    monkeypatch.setattr(libvirt.virConnect, "listAllDomains", list_and_remove)
    found = connected.libvirt.domains()
    assert found is not None
    assert [domain.name for domain in found] == ["test"]
