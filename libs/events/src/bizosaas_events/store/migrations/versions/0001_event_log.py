"""The event log, its append function, consumer leases and checkpoints, inbox and dead letters."""

from alembic import op

revision = "0001"
down_revision = None

SCHEMA = r"""
create table event_partition (
    part int primary key,
    position bigint not null default 0,
    head bytea not null default decode(repeat('00', 32), 'hex')
) with (fillfactor = 10);
insert into event_partition (part) select generate_series(0, 1023);

-- data and meta are bytes, not jsonb: jsonb reorders keys under the hash, and costs a third of append and of replay.
create table event (
    part int not null,
    position bigint not null,
    stream text not null,
    version int not null,
    id uuid not null,
    type text not null,
    tenant text not null,
    at timestamptz not null,
    data bytea not null,
    meta bytea not null,
    hash bytea not null,
    primary key (part, position),
    constraint event_stream_version_key unique (stream, version),
    constraint event_id_key unique (id)
);

create table handled_command (
    id uuid primary key,
    part int not null,
    position bigint not null,
    at timestamptz not null default now()
);

create function lp(field bytea) returns bytea language sql immutable as
    $$ select int4send(octet_length(field)) || field $$;

-- Locks the partition's counter, checks the stream's version, writes the events with their hashes, returns the
-- position before the first. The version check is exact because a stream never leaves its partition.
create function event_append(
    p_part int, p_stream text, p_expected int, p_tenant text, p_at timestamptz,
    p_ids uuid[], p_types text[], p_datas bytea[], p_metas bytea[], p_command uuid
) returns bigint language plpgsql as $$
declare
    base bigint;
    link bytea;
    links bytea[] := '{}';
    at_us bytea := int8send((extract(epoch from p_at) * 1000000)::bigint);
    stream_lp bytea := lp(convert_to(p_stream, 'UTF8'));
    tenant_lp bytea := lp(convert_to(p_tenant, 'UTF8'));
    found int;
begin
    select position, head into strict base, link from event_partition where part = p_part for update;
    select max(version) into found from event where stream = p_stream;
    if coalesce(found, 0) <> p_expected then
        raise exception '%@%', p_stream, p_expected using errcode = 'BZ001';
    end if;
    for i in 1 .. cardinality(p_ids) loop
        link := sha256(link || int8send(base + i) || at_us || int4send(p_expected + i) || uuid_send(p_ids[i])
                       || stream_lp || lp(convert_to(p_types[i], 'UTF8')) || tenant_lp
                       || lp(p_datas[i]) || lp(p_metas[i]));
        links := links || link;
    end loop;
    insert into event (part, position, stream, version, id, type, tenant, at, data, meta, hash)
        select p_part, base + n, p_stream, p_expected + n, i, t, p_tenant, p_at, d, m, links[n]
        from unnest(p_ids, p_types, p_datas, p_metas) with ordinality u(i, t, d, m, n);
    update event_partition set position = base + cardinality(p_ids), head = link where part = p_part;
    if p_command is not null then
        insert into handled_command (id, part, position) values (p_command, p_part, base + cardinality(p_ids));
    end if;
    return base;
end $$;

-- One row per consumer and partition: whose it is, under which fence, and how far it has come.
create table consumer_partition (
    consumer text not null,
    category text not null,
    part int not null,
    owner text,
    fence bigint not null default 0,
    position bigint not null default 0,
    primary key (consumer, category, part)
) with (fillfactor = 50);

-- An owner is alive while it renews this; one row to renew, however many partitions it owns.
create table consumer_instance (
    consumer text not null,
    instance text not null,
    until timestamptz not null,
    primary key (consumer, instance)
) with (fillfactor = 50);

-- How far each consumer of this log said it has come: the relay refills a lost Redis from here.
create table relay_floor (
    part int primary key,
    position bigint not null
);

create table inbox (
    consumer text not null,
    id uuid not null,
    at timestamptz not null default now(),
    primary key (consumer, id)
);

create index inbox_at_idx on inbox using brin (at);

create table dead_letter (
    consumer text not null,
    id text not null,
    fields bytea not null,
    reason text not null,
    attempts int not null,
    at timestamptz not null default now(),
    primary key (consumer, id)
);
"""


def upgrade() -> None:
    op.execute(SCHEMA)
