"""Signed statements about the heads, the progress of verifications, and no column twice that nobody searches."""

from alembic import op

revision = "0002"
down_revision = "0001"

SCHEMA = r"""
-- They stand in meta, which the hash covers; what is shown is read from there.
alter table entry drop column source, drop column role, drop column causation, drop column traceparent;

create or replace function entry_is_final() returns trigger language plpgsql as $$
begin
    raise exception 'the journal is append-only: % of % is refused', tg_op, tg_table_name
        using errcode = 'restrict_violation';
end $$;

-- What also stands outside this database, line by line; `whole` ones name all heads.
create table signed_heads (
    number bigint primary key,
    at timestamptz not null,
    whole boolean not null,
    line bytea not null
);
create index signed_heads_at on signed_heads (at, number);
create trigger signed_heads_are_final before update or delete on signed_heads
    for each row execute function entry_is_final();
create trigger signed_heads_are_not_emptied before truncate on signed_heads execute function entry_is_final();

create table verification (
    id uuid primary key,
    began timestamptz not null default now(),
    events bigint not null,
    of_events bigint not null,
    partitions int not null,
    of_partitions int not null,
    result bytea
) with (fillfactor = 50);
"""


def upgrade() -> None:
    op.execute(SCHEMA)
