"""Dead letters of ordered consumers too, with what stands behind them, and what an operator did about them."""

from alembic import op

revision = "0002"
down_revision = "0001"

SCHEMA = r"""
alter table dead_letter rename to dead_letter_0001;
alter index dead_letter_pkey rename to dead_letter_0001_pkey;

-- An event has category, part and position: where it stands in its log. A message of a queue and a command have
-- stream and entry: where they stood in Redis. `fields` is the envelope as JSON, `edited` the payload put in its place.
create table dead_letter (
    id uuid primary key,
    consumer text not null,
    category text,
    part int,
    position bigint,
    stream text,
    entry text,
    key text not null,
    type text not null,
    tenant text not null,
    fields bytea not null,
    edited bytea,
    state text not null check (state in ('waiting', 'retrying', 'parked')),
    failure text not null default '' check (failure in ('', 'poison', 'bug')),
    error text not null default '',
    reason text not null default '',
    traceback text not null default '',
    attempts int not null default 0,
    version text not null default '',
    first_at timestamptz not null default now(),
    last_at timestamptz not null default now(),
    check ((category is null) <> (stream is null))
);
create unique index dead_letter_event_key on dead_letter (consumer, category, part, key, position)
    where category is not null;
create unique index dead_letter_entry_key on dead_letter (consumer, stream, entry) where stream is not null;
create index dead_letter_waiting_idx on dead_letter (id) where state <> 'parked';

-- The name used to hold the stream, and the group behind it where it was not the service's own.
insert into dead_letter (id, consumer, stream, entry, key, type, tenant, fields, state, failure, reason, attempts,
                         first_at, last_at)
select gen_random_uuid(), coalesce(substring(consumer from '\}:(.+)$'), substring(consumer from ':([^:}]+)\}$'), consumer),
       coalesce(substring(consumer from '^\{[^}]*\}'), consumer), id, coalesce(left(f ->> 'subject', 200), ''),
       coalesce(left(f ->> 'type', 200), ''), coalesce(left(f ->> 'tenantid', 200), ''), fields, 'waiting',
       case when attempts > 1 then 'bug' else 'poison' end, reason, attempts, at, at
from (select *, replace(convert_from(fields, 'UTF8'), '\u0000', '\ufffd')::json as f from dead_letter_0001) as old;
drop table dead_letter_0001;
"""


def upgrade() -> None:
    op.execute(SCHEMA)
