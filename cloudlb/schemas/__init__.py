# SPDX-License-Identifier: Apache-2.0
"""JSON Schema 2020-12 of every request and response body, one module per noun."""
