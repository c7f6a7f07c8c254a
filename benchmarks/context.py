# SPDX-License-Identifier: Apache-2.0
"""What rows share: a directory, a lab that is up when the first row asks for it."""

import contextlib
import os
from pathlib import Path
from typing import Self

from benchmarks.foreign import Foreign
from cloudlb.lab.lab import Lab


class Context(contextlib.ExitStack):
    """To be used with ``with``; the lab goes down at the end."""

    def __init__(self, directory: Path, cache: Path) -> None:
        super().__init__()
        self.directory, self.cache = directory, cache.absolute()
        self._lab = Lab(f"bench{os.getpid()}", cache)

    def __enter__(self) -> Self:
        return self

    def lab(self) -> Lab:
        """The lab, up."""
        if not self._lab.is_up():
            self.say("bringing a lab up")
            self.callback(self._lab.down)
            self._lab.up()
        return self._lab

    def foreign(self) -> Foreign:
        """A meter of the load by others than this run."""
        return Foreign(self._lab.record.namespaces if self._lab.is_up() else ())

    def say(self, text: str) -> None:
        """Tell who waits."""
        print(text, flush=True)
