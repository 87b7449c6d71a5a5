"""What Alembic runs: all migrations on the connection that `database.py` hands over.

The caller has begun the transaction, with foreign keys off, and commits it.
"""

from __future__ import annotations

from alembic import context

from companion.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
