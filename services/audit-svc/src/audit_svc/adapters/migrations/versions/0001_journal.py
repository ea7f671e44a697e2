"""The journal and the heads of its chains."""

from alembic import op

revision = "0001"
down_revision = None

SCHEMA = r"""
-- data and meta are bytes: they are what the hash covers. The columns of meta stand beside it only to be searched.
create table entry (
    category text not null,
    part int not null,
    position bigint not null,
    id uuid not null,
    type text not null,
    subject text not null,
    version int not null,
    tenant text not null,
    at timestamptz not null,
    source text not null,
    actor text not null,
    role text not null,
    correlation text not null,
    causation text not null,
    traceparent text not null,
    data bytea not null,
    meta bytea not null,
    hash bytea not null,
    primary key (category, part, position),
    constraint entry_id_key unique (id)
);
create index entry_tenant on entry (tenant, at desc, id desc);
create index entry_subject on entry (subject, version);
create index entry_actor on entry (tenant, actor, at desc, id desc);
create index entry_correlation on entry (correlation);

create table chain_head (
    category text not null,
    part int not null,
    position bigint not null,
    hash bytea not null,
    primary key (category, part)
) with (fillfactor = 50);

create function entry_is_final() returns trigger language plpgsql as $$
begin
    raise exception 'the journal is append-only: % of entry is refused', tg_op using errcode = 'restrict_violation';
end $$;
create trigger entry_is_final before update or delete on entry for each row execute function entry_is_final();
create trigger entry_is_not_emptied before truncate on entry execute function entry_is_final();
"""


def upgrade() -> None:
    op.execute(SCHEMA)
