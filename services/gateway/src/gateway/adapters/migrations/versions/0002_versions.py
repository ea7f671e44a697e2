"""The views become the first version of the read model; the feed is one for all versions."""

from alembic import op

revision = "0002"
down_revision = "0001"

SCHEMA = """
create schema gateway_1;
alter table view set schema gateway_1;
insert into projection_version (name, number, definition, state) values ('gateway', 1, 1, 'live');
update consumer_partition set consumer = 'gateway@1' where consumer = 'gateway';
update dead_letter set consumer = 'gateway@1' where consumer = 'gateway';

-- Every version comes by every event, and the first one tells it.
create unique index feed_event on feed (event_id);
"""


def upgrade() -> None:
    op.execute(SCHEMA)
