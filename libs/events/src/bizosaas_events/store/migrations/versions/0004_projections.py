"""The versions of projections, and which one is read."""

from alembic import op

revision = "0004"
down_revision = "0003"

SCHEMA = """
-- A version's tables are in the schema `<name>_<number>`, its checkpoints under the consumer `<name>@<number>`.
-- Dropped ones stay in this list, so that no number is given twice.
create table projection_version (
    name text not null,
    number int not null,
    definition int not null,
    state text not null check (state in ('building', 'live', 'kept', 'dropped')),
    created_at timestamptz not null default now(),
    changed_at timestamptz not null default now(),
    primary key (name, number)
);
create unique index projection_version_live_key on projection_version (name) where state = 'live';
"""


def upgrade() -> None:
    op.execute(SCHEMA)
