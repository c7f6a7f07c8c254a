# SPDX-License-Identifier: Apache-2.0
"""Messages between conductor, API and agents: the only user of oslo.messaging."""
