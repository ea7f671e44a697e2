"""What the kill tests start as processes: a producer, a relay, ordered consumers, a projection or a worker of a queue.

python program.py relay|ordered|follower|refusing|counts|recounts|queue|producer <database url> <redis url> <env> <instance> [<acknowledged>]
"""

import asyncio
import functools
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import asyncpg
import uvloop

from bizosaas_events.bus.base import Names, command_envelope
from bizosaas_events.bus.connecting import Client, connect
from bizosaas_events.consumer import Apply, Enter, Feed, OrderedConsumer
from bizosaas_events.envelope import Envelope, to_fields
from bizosaas_events.errors import AlreadyHandledError, DomainError
from bizosaas_events.handling import execute
from bizosaas_events.outages import STORAGE_ERRORS
from bizosaas_events.projecting import Projector
from bizosaas_events.queue import QueueConsumer
from bizosaas_events.relay import Relay
from bizosaas_events.store.postgres import PostgresEventStore
from bizosaas_events.testing.account import ACCOUNT, CODEC, Deposit, a_context
from bizosaas_events.versions import Projection, Versions

PARTITIONS = 8
TTL = 1.0
IDLE_SECONDS = 0.6

# Counts the events of a stream, and how many came out of order: what a lost or repeated batch would show in.
_PROJECT = """
insert into {table} as p (stream, n, bad) values ($1, 1, ($2 <> 1)::int)
on conflict (stream) do update set n = p.n + 1, bad = p.bad + ($2 <> p.n + 1)::int
"""
_REFUSED = "select from refused where (stream, version) in (select * from unnest($1::text[], $2::int[])) limit 1"
ACCOUNTS = 10
"""Of one producer, which deposits in all of them at once."""
MESSAGE_EVERY = 5


async def project(table: str, connection: Any, envelopes: Sequence[Envelope]) -> None:
    statement = _PROJECT.format(table=table)
    await connection.executemany(statement, [(e.subject, e.streamversion) for e in envelopes])
    await connection.execute("select pg_sleep(0.04)")  # so that a kill finds it at work


async def refuse(connection: Any, envelopes: Sequence[Envelope]) -> None:
    """Project, except for what stands in the table `refused`."""
    await project("projection", connection, envelopes)
    pairs = [e.subject for e in envelopes], [e.streamversion for e in envelopes]
    if await connection.fetch(_REFUSED, *pairs):
        raise DomainError("It is refused.")


COUNT = "create table count (stream text primary key, n int not null, bad int not null)"


async def effect(connection: Any, envelope: Envelope) -> None:
    deposit = json.loads(envelope.data)
    await connection.execute("insert into effect values ($1, $2)", deposit["account_id"], deposit["cents"])
    await asyncio.sleep(0.02)


class Producer:
    """Deposits 1, 2, 3, ... in each of its accounts, and sends a message with each fifth, until it is done.

    Every deposit that was acknowledged is written to a file: what was said to have happened must have.
    """

    def __init__(self, store: PostgresEventStore, redis: Client, queue: str, name: str, acknowledged: Path) -> None:
        self._store = store
        self._redis = redis
        self._queue = queue
        self._name = name
        self._done = os.open(acknowledged, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        lines = (line.split() for line in acknowledged.read_text().splitlines())
        self._reached = Counter[str]()
        for what, number in lines:
            self._reached[what] = max(self._reached[what], int(number))

    async def run(self) -> None:
        await asyncio.gather(*(self._deposit(f"{self._name}-{n}") for n in range(ACCOUNTS)))

    async def _deposit(self, account: str) -> None:
        # The last number is done again, under the same ids: its message may not have been sent yet.
        number = max(0, self._reached[account] - 1)
        while True:
            number += 1
            await asyncio.sleep(0.02)  # otherwise the processor is all that is tested
            await self._until_done(account, number, self._append)
            if number % MESSAGE_EVERY == 0:
                await self._until_done(f"queue:{account}", number, self._send)

    async def _until_done(self, what: str, number: int, act: Callable[[str, int], Awaitable[None]]) -> None:
        while True:
            try:
                await act(what, number)
                break
            except AlreadyHandledError:
                break
            except STORAGE_ERRORS:
                await asyncio.sleep(0.1)
        os.write(self._done, f"{what} {number}\n".encode())

    async def _append(self, account: str, number: int) -> None:
        command = Deposit(account_id=account, cents=number)
        id = str(uuid5(NAMESPACE_OID, f"{account} {number}"))
        await execute(self._store, ACCOUNT, account, command, a_context(), command_id=id)

    async def _send(self, queue: str, number: int) -> None:
        command = Deposit(account_id=queue.partition(":")[2], cents=number)
        id = str(uuid5(NAMESPACE_OID, f"{queue} {number}"))
        fields: dict[Any, Any] = {**to_fields(command_envelope(command, a_context(), CODEC, id=id, source="test"))}
        await self._redis.xadd(self._queue, fields)


async def counting(
    definitions: Sequence[int], pool: "asyncpg.Pool[Any]", redis: Client, env: str, instance: str
) -> Callable[[], Awaitable[None]]:
    """A projection in versions, in the definitions that this process has. It reads another's log, too."""

    def make(name: str, apply: Apply, *, enter: Enter) -> OrderedConsumer:
        return OrderedConsumer(
            name, [Feed("account", PARTITIONS)], apply, pool=pool, redis=redis, env=env, instance=instance, ttl=TTL,
            batch=5 if len(definitions) > 1 else 200, together=True, enter=enter,
        )  # fmt: skip

    versions = Versions("counts", {"account": PARTITIONS}, pool=pool, redis=redis, env=env)
    apply = functools.partial(project, "count")
    projector = Projector([Projection("counts", n, COUNT, apply) for n in definitions], versions, make, pool)
    await projector.open()
    return projector.run


async def main(role: str, database_url: str, redis_url: str, env: str, instance: str, acknowledged: str = "") -> None:
    redis = connect(redis_url)
    async with asyncpg.create_pool(database_url, min_size=1, max_size=8) as pool:
        store = PostgresEventStore(pool, CODEC, category="account", source="test", partitions=PARTITIONS)
        work: Callable[[], Awaitable[None]]
        match role:
            case "relay":
                work = Relay(store, pool, redis, env=env).run
            case "ordered" | "follower":
                # A follower reads another's log: what Redis has lost, only the relay can give it.
                name, own = ("projection", store) if role == "ordered" else ("following", None)
                work = OrderedConsumer(
                    name, [Feed("account", PARTITIONS, own)], functools.partial(project, name), pool=pool, redis=redis,
                    env=env, instance=instance, ttl=TTL, batch=20, together=role == "follower",
                ).run  # fmt: skip
            case "refusing":
                work = OrderedConsumer(
                    "projection", [Feed("account", PARTITIONS, store)], refuse, pool=pool, redis=redis, env=env,
                    instance=instance, ttl=TTL, batch=20,
                ).run  # fmt: skip
            case "counts" | "recounts":
                definitions = [1] if role == "counts" else [1, 2]
                work = await counting(definitions, pool, redis, env, instance)
            case "queue":
                work = QueueConsumer(
                    "mail", Names(env).queue("mail"), effect, pool=pool, redis=redis, instance=instance,
                    transaction=5, workers=6, count=100, idle_seconds=IDLE_SECONDS,
                ).run  # fmt: skip
            case "producer":
                work = Producer(store, redis, Names(env).queue("mail"), instance, Path(acknowledged)).run
            case _:
                raise SystemExit(f"no such role: {role}")
        print("at work", flush=True)
        await work()


if __name__ == "__main__":
    logging.basicConfig(level="WARNING", format=f"%(asctime)s {sys.argv[1]} {sys.argv[5]} %(message)s")
    uvloop.run(main(*sys.argv[1:]))
