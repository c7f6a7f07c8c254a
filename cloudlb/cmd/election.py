# SPDX-License-Identifier: Apache-2.0
"""The process that elects for a host, which its agent starts and which outlives the agent."""

import argparse
import logging
import sys
from pathlib import Path

from cloudlb import service
from cloudlb.agents import electing


@service.explained("cloudlb-election")
def main() -> int:
    """Elect until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="where orders lie")
    parser.add_argument("--pins", type=Path, required=True, help="where the maps are pinned")
    options = parser.parse_args()
    form = "%(asctime)s.%(msecs)03d %(process)d %(levelname)s %(name)s %(message)s"
    logging.basicConfig(format=form, level=logging.INFO, datefmt="%Y-%m-%d %H:%M:%S")
    electing.elect(options.directory, options.pins)
    return 0


if __name__ == "__main__":
    sys.exit(main())
