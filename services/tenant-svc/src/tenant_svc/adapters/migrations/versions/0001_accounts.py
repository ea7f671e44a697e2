"""The directory of slugs and addresses."""

from alembic import op

revision = "0001"
down_revision = None

SCHEMA = """
create table tenant_slug (
    slug text primary key,
    tenant_id text not null
);

-- The hash lives here and nowhere else: events are journalled and exported.
create table account (
    email text primary key,
    member_id text not null unique,
    tenant_id text not null,
    name text not null,
    role text not null,
    password_hash text not null
);
"""


def upgrade() -> None:
    op.execute(SCHEMA)
