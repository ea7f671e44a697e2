"""Leases, and people on their way to a vendor's page."""

from alembic import op

revision = "0001"
down_revision = None

SCHEMA = """
create sequence lease_fence;

create table lease (
    name text primary key,
    owner uuid not null,
    fence bigint not null default nextval('lease_fence'),
    until timestamptz not null
);

-- Neither the state nor the PKCE verifier is here: only who knows the state can use a row.
create table pending_authorization (
    state_hash bytea primary key,
    tenant text not null,
    actor text not null,
    role text not null,
    connection_id text not null,
    connector text not null,
    redirect_uri text not null,
    scopes text[] not null,
    expires_at timestamptz not null,
    used_by uuid
);
create index on pending_authorization (expires_at);
"""


def upgrade() -> None:
    op.execute(SCHEMA)
