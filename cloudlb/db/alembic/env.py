# SPDX-License-Identifier: Apache-2.0
"""Run by alembic for every command, on the connection that cloudlb.db.schema gives it."""

from alembic import context

from cloudlb.db.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    transactional_ddl=None,
)
with context.begin_transaction():
    context.run_migrations()
