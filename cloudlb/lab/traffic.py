# SPDX-License-Identifier: Apache-2.0
"""Loads that run on a lab's client while something else happens."""

import json
import signal
import subprocess
import sys
import threading
from types import TracebackType
from typing import Any, Self

from cloudlb.lab.lab import Lab

END_SECONDS = 40.0


class Load:
    """A load in the background: ``with Load.requests(lab, url) as load: …`` then ``load.result``.

    The result is what `cloudlb.lab.load` prints.
    """

    def __init__(self, lab: Lab, kind: str, *arguments: str) -> None:
        self.result: dict[str, Any] = {}
        self._process = lab.host("client").popen(
            [sys.executable, "-m", "cloudlb.lab.load", kind, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._kind = kind

    @classmethod
    def requests(cls, lab: Lab, url: str, at_once: int = 2) -> Self:
        """New connections all the time."""
        return cls(lab, "requests", url, "--at-once", str(at_once))

    @classmethod
    def flows(cls, lab: Lab, address: str, flows: int, interval: float = 0.5) -> Self:
        """Connections that stay."""
        return cls(lab, "flows", address, "--flows", str(flows), "--interval", str(interval))

    @staticmethod
    def count(lab: Lab, url: str, count: int, at_once: int = 1) -> dict[str, Any]:
        """The result of so many requests."""
        load = Load(lab, "requests", url, "--count", str(count), "--at-once", str(at_once))
        return load.finish()

    def wait_open(self, timeout: float = 60) -> None:
        """Wait until all flows are open; RuntimeError with what the load said if they are not."""
        said: list[bytes] = []
        assert self._process.stderr  # noqa: S101  (a pipe)
        reader = threading.Thread(
            target=lambda stream: said.append(stream.readline()),
            args=(self._process.stderr,),
            daemon=True,
        )
        reader.start()
        reader.join(timeout)
        if said != [b"open\n"]:
            self._process.kill()
            rest = b"" if reader.is_alive() else self._process.communicate()[1]
            raise RuntimeError(f"the flows did not open: {(b''.join(said) + rest).decode()}")

    def finish(self, timeout: float = 600) -> dict[str, Any]:
        """Wait for the load's own end."""
        out, err = self._process.communicate(timeout=timeout)
        if self._process.returncode:
            raise RuntimeError(f"the load failed: {err.decode()}")
        self.result = json.loads(out)
        return self.result

    def __enter__(self) -> Self:
        if self._kind == "flows":
            self.wait_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        self.finish(END_SECONDS)
