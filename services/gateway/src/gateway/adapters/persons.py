"""Who people are: the gateway keeps names and addresses closed, and opens them as it shows them.

The keys are asked of tenant-svc, sealed to a one-time key, and kept in memory
for a few seconds: so long another gateway than the one that hears of an
erasure first may still show who it was.
"""

import base64
from collections.abc import Collection, Mapping

import msgspec
from cachetools import TTLCache

from bizosaas_events import Context, UnavailableError, new_id
from bizosaas_events.bus import CommandBus
from bizosaas_events.envelope import now
from bizosaas_events.messages.tenant import PersonKeys, ReadPersonKeys
from bizosaas_events.personal import opened, persons_in
from bizosaas_ports.access import PLATFORM_TENANT, Role
from bizosaas_ports.sealing import SealingKey

from .views import ALL_TENANTS

FRESH_SECONDS = 10.0
OUTAGE_SECONDS = 3600.0
"""For so long a key is used on while tenant-svc does not answer, and so cannot erase anybody either."""
ASK_SECONDS = 3.0
CACHED = 50_000
AT_ONCE = 1000

_decode = msgspec.json.Decoder(dict[str, str | None]).decode

Keys = Mapping[str, bytes | None]
"""By member; None: erased. Empty for one whom this tenant is not told."""


class Persons:
    """Opens closed values for a tenant: those of its own members, and of the platform's."""

    def __init__(self, bus: CommandBus) -> None:
        self._bus = bus
        self._fresh: TTLCache[tuple[str, str], Keys] = TTLCache(CACHED, FRESH_SECONDS)
        self._known: TTLCache[tuple[str, str], Keys] = TTLCache(CACHED, OUTAGE_SECONDS)

    async def opened(self, text: str, tenant: str, *, in_json: bool = True) -> str:
        """A text with its closed values opened, those of an erased person as "(erased)".

        Raises UnavailableError when tenant-svc does not answer and a key was never known here.
        """
        # What is beyond the limit was written by somebody who plays with us, and stays closed.
        persons = sorted(persons_in(text))[:AT_ONCE]
        return opened(text, await self.keys(persons, tenant), in_json=in_json) if persons else text

    async def keys(self, persons: Collection[str], tenant: str, *, anew: bool = False) -> Keys:
        """The keys of these members; `anew`: as they are now, whatever was known. Raises UnavailableError."""
        tenant = PLATFORM_TENANT if tenant == ALL_TENANTS else tenant
        found = {} if anew else _of(self._fresh, persons, tenant)
        missing = [person for person in persons if person not in found]
        if missing:
            found |= await self._renewed(missing, tenant, anew=anew)
        return {id: key for keys in found.values() for id, key in keys.items()}

    def forget(self, persons: Collection[str]) -> None:
        """Know nothing of these members any more."""
        for cache in (self._fresh, self._known):
            for key in [key for key in cache if key[1] in persons]:
                cache.pop(key, None)

    async def _renewed(self, persons: list[str], tenant: str, *, anew: bool) -> dict[str, Keys]:
        try:
            found = await self._ask(persons, tenant)
        except UnavailableError as error:
            found = _of(self._known, persons, tenant)
            if anew or len(found) < len(persons):
                raise UnavailableError(
                    "Names cannot be read now: tenant-svc does not answer.", remedy="Try again.", retry_after=2
                ) from error
        for person, keys in found.items():
            self._fresh[tenant, person] = self._known[tenant, person] = keys
        return found

    async def _ask(self, persons: list[str], tenant: str) -> dict[str, Keys]:
        recipient, id = SealingKey.generate(), new_id()
        command = ReadPersonKeys(member_ids=persons, recipient=recipient.public)
        context = Context(
            tenant=tenant, actor="service:gateway", role=Role.SERVICE, time=now(), correlation_id=id, causation_id=id
        )
        said = await self._bus.call(command, PersonKeys, context, id=id, timeout=ASK_SECONDS)
        told = _decode(recipient.open(said.sealed))
        return {p: {p: _key(told[p])} if p in told else {} for p in persons}


def _of(cache: TTLCache[tuple[str, str], Keys], persons: Collection[str], tenant: str) -> dict[str, Keys]:
    return {person: keys for person in persons if (keys := cache.get((tenant, person))) is not None}


def _key(text: str | None) -> bytes | None:
    return base64.b64decode(text) if text is not None else None
