"""The smallest service, for tests of the process it runs in: no command, one consumer of its own log."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from bizosaas_events import Envelope
from bizosaas_runtime.settings import ServiceSettings
from bizosaas_runtime.worker import Consumer, Platform, Service, run


async def apply(connection: Any, envelopes: Sequence[Envelope]) -> None:
    await connection.execute("select 1")


@contextlib.asynccontextmanager
async def bootstrap(platform: Platform[ServiceSettings]) -> AsyncIterator[Service]:
    yield Service(commands={}, consumers={"self": Consumer(["tenant"], apply)})


if __name__ == "__main__":
    run("tenant", ServiceSettings, bootstrap)
