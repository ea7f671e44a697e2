"""The read model of connections becomes the first version of its projection."""

from alembic import op

revision = "0002"
down_revision = "0001"

SCHEMA = """
create schema agent_connections_1;
alter table connection set schema agent_connections_1;
insert into projection_version (name, number, definition, state) values ('agent-connections', 1, 1, 'live');
update consumer_partition set consumer = 'agent-connections@1' where consumer = 'agent-connections';
update dead_letter set consumer = 'agent-connections@1' where consumer = 'agent-connections';
"""


def upgrade() -> None:
    op.execute(SCHEMA)
