"""What Alembic runs for every migration folder; see `store/migrating.py`."""

from alembic import context
from sqlalchemy import create_engine

options = context.config.attributes
engine = create_engine(options["url"])
with engine.connect() as connection:
    context.configure(connection=connection, version_table=options["version_table"], transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
