"""The keys that personal data in events is closed with."""

from alembic import op

revision = "0005"
down_revision = "0004"

SCHEMA = """
-- One row per person, for ever: without a key since `erased_at`, so that an id is not used again.
create table person_key (
    person text primary key,
    tenant text not null,
    wrapped bytea,
    made_at timestamptz not null default now(),
    erased_at timestamptz,
    check ((wrapped is null) = (erased_at is not null))
);
"""


def upgrade() -> None:
    op.execute(SCHEMA)
