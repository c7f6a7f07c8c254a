# SPDX-License-Identifier: Apache-2.0
"""The REST API: a routes table, one module per resource, everything checked against schemas."""
