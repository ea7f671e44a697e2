"""The views, the feeds, and the row-level security that keeps tenants apart."""

from alembic import op

revision = "0001"
down_revision = None

SCHEMA = """
-- Every kind of view in one table: a new kind is new rows.
create table view (
    kind text not null,
    id text not null,
    tenant text not null,
    version int not null,
    state jsonb not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (kind, id)
);
create index view_page on view (kind, tenant, created_at desc, id desc);

-- A tenant's events in the order in which the gateway learnt of them, numbered without gaps.
create table feed (
    tenant text not null,
    number bigint not null,
    event_id uuid not null,
    type text not null,
    subject text not null,
    version int not null,
    at timestamptz not null,
    actor text not null,
    words text not null,
    position text not null,
    correlation_id text not null,
    causation_id text not null,
    primary key (tenant, number)
);
create index feed_causation on feed (tenant, causation_id);

-- The row stays locked until the batch commits, so a reader never sees a number before a smaller one.
create table feed_counter (
    tenant text primary key,
    number bigint not null
) with (fillfactor = 50);

-- Nothing is visible before `app.tenant` is set for the transaction; '*' is the projection, and whoever the
-- gateway let see all tenants. FORCE, because the gateway's role owns the tables.
alter table view enable row level security;
alter table view force row level security;
alter table feed enable row level security;
alter table feed force row level security;
alter table feed_counter enable row level security;
alter table feed_counter force row level security;

create policy view_read on view for select using (
    tenant = current_setting('app.tenant', true)
    or current_setting('app.tenant', true) = '*'
    or (kind = 'agent' and tenant = 'platform' and coalesce(current_setting('app.tenant', true), '') <> '')
);
create policy view_write on view for all
    using (current_setting('app.tenant', true) = '*') with check (current_setting('app.tenant', true) = '*');
create policy feed_read on feed for select
    using (tenant = current_setting('app.tenant', true) or current_setting('app.tenant', true) = '*');
create policy feed_write on feed for all
    using (current_setting('app.tenant', true) = '*') with check (current_setting('app.tenant', true) = '*');
create policy feed_counter_read on feed_counter for select
    using (tenant = current_setting('app.tenant', true) or current_setting('app.tenant', true) = '*');
create policy feed_counter_write on feed_counter for all
    using (current_setting('app.tenant', true) = '*') with check (current_setting('app.tenant', true) = '*');
"""


def upgrade() -> None:
    op.execute(SCHEMA)
