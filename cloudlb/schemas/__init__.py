# SPDX-License-Identifier: Apache-2.0
"""JSON Schema (2020-12) of every body of the API, as plain data: one module per noun.

Each noun has the same names: ``SPEC`` (what its user writes), ``CREATE``, ``REPLACE`` and
``PATCH`` (request bodies), ``SHOW`` and ``LIST`` (response bodies), ``QUERY`` (query parameters of
its list). Validation, the OpenAPI document, the CLI's choices and the client derive from them.
"""
