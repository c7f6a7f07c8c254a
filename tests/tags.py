# SPDX-License-Identifier: Apache-2.0
"""Where an interface's VLAN tags are: in its frames, as XDP programs need it, or beside them.

usage: tags.py INTERFACE; they are in its frames from now on.
"""

import sys
from contextlib import closing

from pyroute2.ethtool import Ethtool


def show_tags(interface: str, shown: bool = True) -> None:
    """Have frames come from an interface with their tags in them, or beside them."""
    with closing(Ethtool()) as ethtool:
        features = ethtool.get_features(interface)
        for name in ("rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"):
            features.features[name].enable = not shown
        ethtool.set_features(interface, features)


if __name__ == "__main__":
    show_tags(sys.argv[1])
