# SPDX-License-Identifier: Apache-2.0
"""`cloudlb-lab`: a whole site on one machine."""

import signal
import sys
from types import FrameType

from cloudlb.lab.cli import parser
from cloudlb.lab.errors import LabError
from cloudlb.lab.lab import Lab


def main() -> int:
    """Run one command; the result is the exit status."""
    # Also where SIGINT is ignored, as in the background of a script: `up` must clean up.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    options = parser().parse_args()
    try:
        status: int = options.action(Lab(options.name, options.cache), options)
    except LabError as error:
        sys.stderr.write(f"cloudlb-lab: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("cloudlb-lab: interrupted\n")
        return 130
    return status


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
