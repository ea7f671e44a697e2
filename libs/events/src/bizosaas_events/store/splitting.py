"""The event table in several: for a log that one table, its indexes and one vacuum can no longer serve.

    python -m bizosaas_events.store.splitting postgresql://... --tables 16

PostgreSQL's own partitioning, by the log's partitions: each table has the
events of some of them, and all that the code asks stays as it is. The log
stands still meanwhile: stop its service, and expect some minutes for each
hundred million events. Either all of it happens, or nothing.
"""

import argparse

import psycopg

TABLES = 16

# A stream is in one partition, and the constraints of the tables hold within each; that a stream is in no other, and
# in which one it is to be looked for, is what event_stream is for.
_SPLIT = """
lock table event in access exclusive mode;
alter table event rename to event_before;
alter table event_before rename constraint event_pkey to event_before_pkey;
alter table event_before rename constraint event_stream_version_key to event_before_stream_version_key;
alter table event_before rename constraint event_id_key to event_before_id_key;

create table event (like event_before) partition by hash (part);
do $$ begin
    for n in 0 .. {tables} - 1 loop
        execute format('create table event_%s partition of event for values with (modulus {tables}, remainder %s)', n, n);
    end loop;
end $$;
insert into event select * from event_before order by part, position;
alter table event add primary key (part, position),
    add constraint event_stream_version_key unique (part, stream, version),
    add constraint event_id_key unique (part, id);

create table event_stream (stream text primary key, part int not null);
insert into event_stream select stream, part from event where version = 1;
create function event_stream_begins() returns trigger language plpgsql as $$
begin
    insert into event_stream (stream, part) values (new.stream, new.part) on conflict do nothing;
    if not found then
        raise exception '%@0', new.stream using errcode = 'BZ001';
    end if;
    return new;
end $$;
create trigger event_stream_begins before insert on event for each row when (new.version = 1)
    execute function event_stream_begins();

drop function event_load;
drop table event_before;
create function event_load(p_stream text, p_version int, p_at timestamptz) returns setof event language sql stable as $$
    select * from event
    where part = (select part from event_stream where stream = p_stream)
    and stream = p_stream and version <= p_version and (p_at is null or at <= p_at) order by version
$$;
"""
_APPEND = "select pg_get_functiondef('event_append'::regproc)"
_LOOKS = "from event where stream = p_stream;"
_LOOKS_IN_ONE = "from event where part = p_part and stream = p_stream;"


def split(database_url: str, tables: int = TABLES) -> None:
    """Spread the events of a log over so many tables, those of a stream always in one.

    Raises ValueError when the log is split already.
    """
    with psycopg.connect(database_url) as connection:
        row = connection.execute("select relkind from pg_class where oid = 'event'::regclass").fetchone()
        if row != ("r",):
            raise ValueError(
                "the event table is split already; to split it otherwise, restore the log into a new database"
            )
        (append,) = connection.execute(_APPEND).fetchone() or ("",)
        if _LOOKS not in append:
            raise ValueError("event_append is not the one that this version knows how to change")
        connection.execute(_SPLIT.format(tables=int(tables)).encode())
        connection.execute(append.replace(_LOOKS, _LOOKS_IN_ONE).encode())
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("analyze event")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database_url")
    parser.add_argument("--tables", type=int, default=TABLES)
    options = parser.parse_args()
    split(options.database_url, options.tables)
