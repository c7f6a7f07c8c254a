# SPDX-License-Identifier: Apache-2.0
"""Sphinx configuration."""

import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "ext"))
# A library of oslo looks whether eventlet is there when it is imported; nothing here uses it.
warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")

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
