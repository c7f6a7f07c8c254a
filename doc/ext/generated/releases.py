# SPDX-License-Identifier: Apache-2.0
"""The release notes, as reno reports them from the history of the repository."""

from pathlib import Path

from reno import config, formatter, loader

from generated import rst

ROOT = Path(__file__).parents[3]
UNTAGGED = "\n0.0.0\n=====\n"
"""What reno calls the time before the first tag."""


def text() -> str:
    """The report; outside of a repository a sentence that says where the notes are."""
    if not (ROOT / ".git").exists():
        return "The notes are the files in ``releasenotes/notes``.\n"
    settings = config.Config(str(ROOT), "releasenotes")
    with loader.Loader(settings) as notes:
        versions = [v for v in notes.versions if notes[v]]
        report: str = formatter.format_report(notes, settings, versions, show_source=False)
    return report.replace(UNTAGGED, f"\n{rst.title('Not released yet', '=')}\n")
