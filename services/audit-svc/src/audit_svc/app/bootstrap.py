"""Puts audit-svc together; the only file that knows every concrete class."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import Gauge

from bizosaas_events.bus import bind
from bizosaas_events.envelope import now
from bizosaas_events.messages import categories
from bizosaas_ports.signing import SigningKey
from bizosaas_runtime.settings import WrongSettingError
from bizosaas_runtime.worker import Consumer, Platform, Service

from ..adapters.heads_file import HeadsFile
from ..adapters.ledger import PostgresLedger
from ..adapters.statements import PostgresStatements
from ..adapters.verifications import PostgresVerifications
from ..handlers import commands, proofs, queries
from ..handlers.reactions import Journal
from ..handlers.signing import Notary
from .settings import Settings, public_keys

PACE_SECONDS = 0.2
"""Between two reads of the journal's consumer while little comes. With PostgreSQL, an event takes 0.16 ms of a
processor so at 300 a second, and took 0.43 with a quarter of it."""
VERIFIED = Gauge("bizos_audit_heads_verified", "Signed heads of chains, held against the journal at the last signing.")
CONTRADICTING = Gauge("bizos_audit_heads_contradicting", "How many of them are not those of the journal.")


@asynccontextmanager
async def bootstrap(platform: Platform[Settings]) -> AsyncIterator[Service]:
    settings = platform.settings
    key = SigningKey.parse(settings.audit_signing_key.get_secret_value())
    ledger, statements = PostgresLedger(platform.pool), PostgresStatements(platform.pool)
    notary = Notary(
        ledger, statements, await _export(settings), key, now=now, seconds=settings.heads_seconds,
        former=public_keys(settings.audit_former_public_keys),
    )  # fmt: skip
    VERIFIED.set_function(lambda: notary.checked)
    CONTRADICTING.set_function(lambda: notary.contradicting)
    handlers = bind(
        *commands.HANDLERS, *queries.HANDLERS, *proofs.HANDLERS, store=platform.store, ledger=ledger,
        statements=statements, notary=notary, verifications=PostgresVerifications(platform.pool), key=key,
        limits=proofs.PageLimits(), codec=platform.store.codec, now=now,
    )  # fmt: skip
    journal = Consumer(categories(), Journal(ledger).apply, whole=True, together=True, pace=PACE_SECONDS)
    yield Service(
        handlers,
        consumers={"audit": journal},
        tasks=(notary.run,),
        checks={"heads": notary.problem},
    )
    await notary.close()


async def _export(settings: Settings) -> HeadsFile:
    """The file for the signed heads. That it cannot be written is a wrong setting, which waiting would not mend."""
    file = HeadsFile(settings.heads_path)
    try:
        await asyncio.to_thread(file.prepare)
    except OSError as error:
        raise WrongSettingError(
            f"BIZOS_HEADS_PATH={settings.heads_path} cannot be written: {error.strerror}. "
            "Name a file outside the database, on a disk that is kept."
        ) from error
    return file
