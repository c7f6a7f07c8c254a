# SPDX-License-Identifier: Apache-2.0
"""Messages between conductor, API and agents: the only user of oslo.messaging.

oslo.messaging 18 loads eventlet while it is imported unless native threads have been chosen
before; this package is the one place that every such import passes.
"""

from oslo_service import backend

backend.init_backend(backend.BackendType.THREADING)
