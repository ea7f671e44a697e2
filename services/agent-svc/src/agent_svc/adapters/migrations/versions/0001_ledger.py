"""The ledger of steps, the outputs of runs, and the read model of connections."""

from alembic import op

revision = "0001"
down_revision = None

SCHEMA = """
-- payload is the one place where an external system's data rests, and only while the run is open: scrubbed_at says
-- when it was emptied. The digest stays.
create table run_step (
    run_id text not null,
    n int not null,
    kind text not null,
    name text not null,
    digest text not null,
    payload bytea not null,
    at timestamptz not null default now(),
    scrubbed_at timestamptz,
    primary key (run_id, n)
);
create index run_step_unscrubbed on run_step (at) where kind = 'tool' and scrubbed_at is null;

create table run_output (
    run_id text primary key,
    output bytea not null,
    at timestamptz not null default now()
);

create table connection (
    id text primary key,
    tenant text not null,
    status text not null,
    view bytea not null
);
create index connection_of_tenant on connection (tenant) where status <> 'closed';
"""


def upgrade() -> None:
    op.execute(SCHEMA)
