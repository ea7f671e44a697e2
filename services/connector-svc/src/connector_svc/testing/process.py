"""connector-svc as a real process, with secret-svc played by the test over the real streams."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from bizosaas_events import Command, messages, new_id
from bizosaas_events.bus import Names
from bizosaas_events.bus.connecting import Client, connect
from bizosaas_events.bus.reading import Streams
from bizosaas_events.bus.redis import RedisCommandBus, send_reply
from bizosaas_events.envelope import from_fields
from bizosaas_events.stopping import stop
from bizosaas_ports.sealing import export_public

from . import KEY, SECRET_KEY, MemorySecretSvc


@dataclass
class ConnectorProcess:
    """`python -m connector_svc` on a database and a Redis: `start`, `kill` (SIGKILL) and `stop` (SIGTERM) it."""

    database_url: str
    redis_url: str
    env: str
    log: Path
    health_port: int
    settings: Mapping[str, str] = field(default_factory=dict)
    _process: asyncio.subprocess.Process | None = None

    def environment(self) -> dict[str, str]:
        """What the process sees of ours: too little to change what it does."""
        kept = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "TMPDIR", "LANG")}
        return kept | {
            "BIZOS_ENV": self.env,
            "BIZOS_DATABASE_URL": self.database_url,
            "BIZOS_REDIS_URL": self.redis_url,
            "BIZOS_HEALTH_PORT": str(self.health_port),
            "BIZOS_PARTITIONS": "4",
            "BIZOS_SEALING_KEY": KEY.export(),
            "BIZOS_SECRET_SVC_PUBLIC_KEY": export_public(SECRET_KEY.public),
            "BIZOS_ALLOW_PRIVATE_ADDRESSES": "true",
            **self.settings,
        }

    async def start(self) -> None:
        """Start, and wait until it is ready. Raises RuntimeError with its log when it is not within 30 s."""
        environment = self.environment()
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "connector_svc", env=environment, stdout=log, stderr=log
            )
        ready = f"http://127.0.0.1:{environment['BIZOS_HEALTH_PORT']}/readyz"
        async with httpx.AsyncClient(trust_env=False) as client:
            for _ in range(300):
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get(ready)).status_code == 200:
                        return
                if self._process.returncode is not None:
                    break
                await asyncio.sleep(0.1)
        raise RuntimeError(f"connector-svc is not ready:\n{self.log.read_text()[-4000:]}")

    async def kill(self) -> None:
        await self._end("kill")

    async def stop(self) -> int:
        return await self._end("terminate")

    async def _end(self, how: str) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            getattr(process, how)()
        return await process.wait()


@contextlib.asynccontextmanager
async def caller(redis_url: str, env: str) -> AsyncIterator[RedisCommandBus]:
    """A bus to send commands with, as the gateway does."""
    redis = connect(redis_url)
    try:
        instance = f"test-{new_id()}"
        async with RedisCommandBus(redis, messages.codec(), env=env, source="gateway", instance=instance) as bus:
            yield bus
    finally:
        await redis.aclose()


@contextlib.asynccontextmanager
async def secrets_over_redis(redis_url: str, env: str) -> AsyncIterator[MemorySecretSvc]:
    """secret-svc, played by the test: it outlives every process of connector-svc."""
    played = MemorySecretSvc()
    redis = connect(redis_url)
    serving = asyncio.create_task(_serve(played, redis, Names(env)))
    try:
        yield played
    finally:
        await stop([serving])
        await redis.aclose()


async def _serve(played: MemorySecretSvc, redis: Client, names: Names) -> None:
    stream, last = names.commands("secret").encode(), "0-0"
    async with Streams(redis) as reading:
        while True:
            for _, entries in await reading.read({stream: last}, count=50, block_ms=200):
                for entry_id, fields in entries:
                    last, envelope = entry_id.decode(), from_fields(fields)
                    command = messages.codec().decode(envelope)
                    assert isinstance(command, Command)
                    await send_reply(redis, names, envelope, await played(envelope, command))
