"""Loading a stream is a function, so that a log whose table was split can answer it from one of its tables."""

from alembic import op

revision = "0003"
down_revision = "0002"

# The planner sees through it: a call costs what the query did.
SCHEMA = r"""
create function event_load(p_stream text, p_version int, p_at timestamptz) returns setof event language sql stable as $$
    select * from event
    where stream = p_stream and version <= p_version and (p_at is null or at <= p_at) order by version
$$;
"""


def upgrade() -> None:
    op.execute(SCHEMA)
