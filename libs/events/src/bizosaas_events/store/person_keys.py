"""The persons' keys, in the database of the log that holds their data."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import asyncpg

from ..envelope import Event
from ..personal import MasterKey, PersonErasedError, PersonKey, new_key, person_in

_MAKE = "insert into person_key (person, tenant, wrapped) values ($1, $2, $3) on conflict (person) do nothing"
# Held until the append commits: an erasure waits for it, or is seen by it.
_TAKE = "select wrapped from person_key where person = $1 for share"
_ERASE = """insert into person_key (person, tenant, erased_at) values ($1, $2, now())
            on conflict (person) do update set wrapped = null, erased_at = coalesce(person_key.erased_at, now())"""
_FIND = "select person, tenant, wrapped from person_key where person = any($1::text[])"
_ANY = "select person, wrapped from person_key where wrapped is not null limit 1"


class PersonKeys:
    """Makes, finds and destroys keys, each wrapped with the master key. A destroyed one leaves its row without the key:
    nobody is given the same id again."""

    def __init__(self, pool: "asyncpg.Pool[Any]", master: MasterKey) -> None:
        self._pool = pool
        self._master = master

    async def check(self) -> None:
        """That this is the master key the persons' keys are wrapped with. Raises WrongMasterKeyError."""
        row = await self._pool.fetchrow(_ANY)
        if row is not None:
            self._master.unwrap(row["wrapped"], row["person"])

    async def find(self, persons: Sequence[str]) -> dict[str, PersonKey]:
        """The keys of these persons, None for an erased one; who is not known is left out."""
        return {
            person: PersonKey(tenant, None if wrapped is None else self._master.unwrap(wrapped, person))
            for person, tenant, wrapped in await self._pool.fetch(_FIND, list(persons))
        }

    async def take(self, connection: Any, events: Iterable[Event], tenant: str) -> Mapping[str, bytes]:
        """Within the transaction that appends these events: the keys to close them with, made where there is none.

        Whoever they erase has no key after it. Raises PersonErasedError.
        """
        keys: dict[str, bytes] = {}
        # In one order, so that two appends cannot wait for each other.
        about = sorted(((person_in(event), event) for event in events), key=lambda pair: pair[0])
        for person in dict.fromkeys(person for person, event in about if event.personal):
            await connection.execute(_MAKE, person, tenant, self._master.wrap(new_key(), person))
            wrapped = await connection.fetchval(_TAKE, person)
            if wrapped is None:
                raise PersonErasedError(person)
            keys[person] = self._master.unwrap(wrapped, person)
        for person in dict.fromkeys(person for person, event in about if event.erases):
            await connection.execute(_ERASE, person, tenant)
        return keys
