"""How many events a second are recorded, each with its place in a gapless order and in a hash chain.

    (a) a plain insert of the same bytes with the same indexes: no version check, no order, no chain
    (b) PostgresEventStore.append: one call with all of that
    (c) `eventsourcing` from PyPI, the established library: application.save of a new aggregate

Each with one writer and with eight, with one event in a transaction and with four. Commits do not wait for the disk
unless told to, because then the disk is all that is measured.

    python bench/append.py [--rounds 5] [--appends 1500] [--fsync]
"""

import argparse
import asyncio
import secrets
import threading
import time
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from measuring import Bar, Measure, interleave, servers, table

from bizosaas_events.envelope import new_id
from bizosaas_events.store.base import Write
from bizosaas_events.store.migrating import migrate
from bizosaas_events.store.postgres import PostgresEventStore, open_pool
from bizosaas_events.testing.account import CODEC, Deposited, a_context

PLAIN = """
create table plain (
    position bigint generated always as identity primary key, stream text not null, version int not null,
    id uuid not null unique, type text not null, tenant text not null, at timestamptz not null, data bytea not null,
    meta bytea not null, unique (stream, version))
"""
INSERT = """insert into plain (stream, version, id, type, tenant, at, data, meta)
            select $1, $2 + n, i, t, $3, $4, d, m
            from unnest($5::uuid[], $6::text[], $7::bytea[], $8::bytea[]) with ordinality u(i, t, d, m, n)"""
META = b'{"source":"account-svc","actorid":"member:1","actorrole":"tenant_user","correlationid":"' + b"0" * 120 + b'"}'


class Account(Aggregate):
    @event("Opened")
    def __init__(self, cents: int) -> None:
        self.cents = cents

    @event("Deposited")
    def deposit(self, cents: int) -> None:
        self.cents += cents


def of_eventsourcing(url: str, appends: int, writers: int, events: int) -> float:
    parts = urlsplit(url)
    environment = {
        "PERSISTENCE_MODULE": "eventsourcing.postgres", "POSTGRES_DBNAME": parts.path[1:],
        "POSTGRES_HOST": str(parts.hostname), "POSTGRES_PORT": str(parts.port), "POSTGRES_USER": str(parts.username),
        "POSTGRES_PASSWORD": str(parts.password), "POSTGRES_POOL_SIZE": "10", "POSTGRES_MAX_OVERFLOW": "10",
    }  # fmt: skip
    application = type("Bench", (Application,), {"name": f"b{secrets.token_hex(4)}"})(env=environment)

    def write() -> None:
        for n in range(appends // writers):
            account = Account(n)
            for _ in range(events - 1):
                account.deposit(n)
            application.save(account)

    threads = [threading.Thread(target=write) for _ in range(writers)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    application.close()
    return appends // writers * writers * events / took


async def plain(pool: "asyncpg.Pool[Any]", appends: int, writers: int, events: int) -> float:
    async def write() -> None:
        context = a_context()
        for _ in range(appends // writers):
            data = [CODEC.encode(Deposited(cents=n)) for n in range(events)]
            await pool.execute(
                INSERT, f"account-{secrets.token_hex(8)}", 0, context.tenant, context.time,
                [new_id() for _ in range(events)], ["account.account.deposited.v1"] * events, data, [META] * events,
            )  # fmt: skip

    began = time.perf_counter()
    await asyncio.gather(*(write() for _ in range(writers)))
    return appends // writers * writers * events / (time.perf_counter() - began)


async def with_chain(store: PostgresEventStore, appends: int, writers: int, events: int) -> float:
    async def write() -> None:
        context = a_context()
        for _ in range(appends // writers):
            stream = f"account-{secrets.token_hex(8)}"
            await store.append([Write(stream, 0, [Deposited(cents=n) for n in range(events)])], context)

    began = time.perf_counter()
    await asyncio.gather(*(write() for _ in range(writers)))
    return appends // writers * writers * events / (time.perf_counter() - began)


async def main(rounds: int, appends: int, fsync: bool) -> None:
    began = time.perf_counter()
    async with servers(fsync=fsync) as started:
        url, other = started.database("log"), started.database("other")
        migrate(url)
        async with open_pool(url, min_size=8, max_size=8) as pool:
            await pool.execute(PLAIN)
            store = PostgresEventStore(pool, CODEC, category="account", source="account-svc", partitions=64)
            variants: dict[str, Measure] = {}
            for writers, events in ((1, 1), (8, 1), (1, 4), (8, 4)):
                label = f"{writers} writer{'s' * (writers > 1)}, {events} a transaction"
                shape = (appends if writers > 1 else appends // 2, writers, events)
                variants[f"plain insert, {label}"] = partial(plain, pool, *shape)
                variants[f"append, {label}"] = partial(with_chain, store, *shape)
                variants[f"eventsourcing, {label}"] = partial(asyncio.to_thread, of_eventsourcing, other, *shape)
            measured = await interleave(variants, rounds)
    bars = [
        Bar("append, 8 writers, 1 a transaction", "plain insert, 8 writers, 1 a transaction", 0.6),
        Bar("append, 8 writers, 4 a transaction", "plain insert, 8 writers, 4 a transaction", 0.6),
        Bar("append, 1 writer, 1 a transaction", "eventsourcing, 1 writer, 1 a transaction", 2.7),
        Bar("append, 8 writers, 1 a transaction", "eventsourcing, 8 writers, 1 a transaction", 5),
    ]
    table(f"Append, fsync {'on' if fsync else 'off'}", measured, bars, began=began)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--appends", type=int, default=1500, help="transactions of each variant in each round")
    parser.add_argument("--fsync", action="store_true", help="let every commit wait for the disk")
    options = parser.parse_args()
    asyncio.run(main(options.rounds, options.appends, options.fsync))
