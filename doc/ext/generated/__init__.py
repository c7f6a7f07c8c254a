# SPDX-License-Identifier: Apache-2.0
"""Sphinx extension: writes the pages' parts that derive from code, before pages are read.

Each part is a file below ``doc/source/_generated`` that a page includes. A file that would not
change is left alone, so that Sphinx does not build its page anew.
"""

from collections.abc import Callable
from pathlib import Path

from sphinx.application import Sphinx

from generated import api, configuration, policy, releases

PARTS: dict[str, Callable[[], str]] = {
    "configuration.inc": configuration.text,
    "policy.inc": policy.text,
    "api.inc": api.text,
    "releases.inc": releases.text,
}


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the parts when a build begins."""
    app.connect("builder-inited", lambda app: write(Path(app.srcdir) / "_generated"))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write(directory: Path) -> None:
    """Write every part that differs from what is there."""
    directory.mkdir(exist_ok=True)
    for name, make in PARTS.items():
        path, text = directory / name, make()
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
