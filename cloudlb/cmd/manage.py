# SPDX-License-Identifier: Apache-2.0
"""``cloudlb-manage db sync | version | check``: the tables of the database."""

import argparse
import sys
from collections.abc import Callable, Sequence

from cloudlb import conf as configuration
from cloudlb import service
from cloudlb.db import schema
from cloudlb.db.session import Sessions, from_conf


def sync(sessions: Sessions) -> int:
    """Bring the tables to the newest revision."""
    schema.sync(sessions)
    return 0


def version(sessions: Sessions) -> int:
    """Print the revision that the tables have."""
    sys.stdout.write(f"{schema.version(sessions) or 'none'}\n")
    return 0


def check(sessions: Sessions) -> int:
    """Compare the tables with this release; exit status 1 if they differ."""
    have, newest = schema.version(sessions), schema.newest()
    if have != newest:
        sys.stdout.write(
            f"The database has revision {have or 'none'}, this release needs {newest}; run "
            "cloudlb-manage db sync.\n"
        )
        return 1
    found = schema.differences(sessions)
    for difference in found:
        sys.stdout.write(f"{difference}\n")
    return 1 if found else 0


_ACTIONS: dict[str, Callable[[Sessions], int]] = {
    "sync": sync,
    "version": version,
    "check": check,
}


@service.explained("cloudlb-manage")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status."""
    parser = argparse.ArgumentParser(prog="cloudlb-manage", description=__doc__)
    parser.add_argument("--config-file", action="append", default=[], metavar="FILE")
    nouns = parser.add_subparsers(dest="noun", required=True)
    verbs = nouns.add_parser("db", help="the tables").add_subparsers(dest="verb", required=True)
    for name, action in _ACTIONS.items():
        verbs.add_parser(name, help=action.__doc__)
    chosen = parser.parse_args(arguments)
    files = [part for path in chosen.config_file for part in ("--config-file", path)]
    conf = configuration.load(files, "cloudlb-manage")
    return _ACTIONS[chosen.verb](from_conf(conf))


if __name__ == "__main__":
    sys.exit(main())
