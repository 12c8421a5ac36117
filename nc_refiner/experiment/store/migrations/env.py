"""Alembic runs this; the connection comes from `nc_refiner.experiment.store`, never from an ini file."""

from alembic import context

from nc_refiner.experiment.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    version_table="nc_refiner_version",
)
with context.begin_transaction():
    context.run_migrations()
