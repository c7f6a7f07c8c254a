# SPDX-License-Identifier: Apache-2.0
"""A service process: ends when told, or when one of its threads fails; systemd is told."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from oslo_config import cfg

from cloudlb.model.errors import Misconfigured
from cloudlb.service import Service, explained, notify


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Those of a fresh process, also where a shell runs the tests in the background and has them
    ignore Ctrl-C; the handlers of this process are put back.
    """
    fresh = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    saved = {number: signal.signal(number, handler) for number, handler in fresh.items()}
    yield
    for number, handler in saved.items():
        signal.signal(number, handler)


def _wait(stopping: threading.Event) -> None:
    stopping.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_threads_and_the_process_in_good_order(number: signal.Signals) -> None:
    ended = []

    def kill_when_ready(stopping: threading.Event) -> None:
        while signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler, None):
            stopping.wait(0.01)
        os.kill(os.getpid(), number)

    service = Service("test")
    for name in ("a", "b"):
        service.thread(name, lambda stopping: (_wait(stopping), ended.append(1))[0])
    service.thread("killer", kill_when_ready)
    assert service.run() == 0
    assert ended == [1, 1]


def test_a_thread_that_fails_ends_the_process_with_status_1(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(_stopping: threading.Event) -> None:
        raise RuntimeError("no memory")

    service = Service("test")
    service.thread("worker", _wait)
    service.thread("unlucky", fail)
    assert service.run() == 1
    (record,) = (r for r in caplog.records if r.levelname == "ERROR")
    assert record.getMessage() == "service=test thread=unlucky failed, the process ends"
    assert record.exc_info is not None


def test_a_thread_that_does_not_end_does_not_hold_the_process() -> None:
    forever = threading.Event()
    service = Service("test")
    service.thread("stuck", lambda _stopping: _wait(forever))
    service.stopping.set()
    assert service.run(drain=0.01) == 0
    forever.set()


@pytest.mark.parametrize("is_abstract", [False, True], ids=["path", "abstract"])
def test_systemd_hears_when_the_service_is_ready_and_when_it_stops(
    is_abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"@{tmp_path}/notify" if is_abstract else f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path.replace("@", "\0"))
        systemd.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        service = Service("test")
        service.stopping.set()
        service.run()
        assert [systemd.recv(99), systemd.recv(99)] == [b"READY=1", b"STOPPING=1"]


def test_without_systemd_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")


@pytest.mark.parametrize("error", [Misconfigured("a,\nb"), cfg.Error("a,\n b")])
def test_what_keeps_a_program_from_starting_is_one_line_and_status_1(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    @explained("cloudlb-test")
    def main() -> int:
        raise error

    assert main() == 1
    assert capsys.readouterr() == ("", "cloudlb-test: a, b\n")


def test_a_fault_of_a_program_is_no_explanation() -> None:
    @explained("cloudlb-test")
    def main() -> int:
        raise KeyError("x")

    with pytest.raises(KeyError):
        main()
