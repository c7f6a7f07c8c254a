# SPDX-License-Identifier: Apache-2.0
"""Sphinx configuration."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "ext"))

project = "cloudlb"
author = "The cloudlb authors"
copyright = "The cloudlb authors; Apache License 2.0"
extensions = ["generated"]
exclude_patterns = ["_generated"]
html_theme = "alabaster"
html_theme_options = {
    "description": "Layer-4 load balancing for virtual machines",
    "fixed_sidebar": True,
    "page_width": "1080px",
}
html_show_sourcelink = False
nitpicky = True
