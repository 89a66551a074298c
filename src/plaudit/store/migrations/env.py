"""Run by alembic: migrations on the connection, and in the transaction, that `plaudit.store.schema` gives."""

from alembic import context

from plaudit.store.schema import VERSION_TABLE, tables

context.configure(connection=context.config.attributes["connection"], target_metadata=tables()[0], version_table=VERSION_TABLE)
with context.begin_transaction():
    context.run_migrations()
