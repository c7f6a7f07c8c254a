# SPDX-License-Identifier: Apache-2.0
"""One linear branch of revisions.

Each says its ``phase``: ``expand`` only adds what the release before can live with, ``contract``
removes what no supported release uses any more.
"""
