# SPDX-License-Identifier: Apache-2.0
"""Shim for tools that want a setup.py; the metadata stands in pyproject.toml."""

import setuptools

setuptools.setup()
