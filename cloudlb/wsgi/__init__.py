# SPDX-License-Identifier: Apache-2.0
"""WSGI applications for servers that load them by module name."""
