"""Puts the gateway together; the only file that knows every concrete class."""

import functools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import asyncpg
from litestar import Litestar
from redis.exceptions import RedisError

from bizosaas_events import Envelope, messages
from bizosaas_events.messages import log_of
from bizosaas_events.versions import Projection
from bizosaas_ports.sealing import parse_public
from bizosaas_runtime.health import Check
from bizosaas_runtime.worker import Platform, open_projection

from ..adapters.idempotency import Idempotency
from ..adapters.persons import Persons
from ..adapters.rate_limits import Attempts
from ..adapters.sessions import RedisSessions
from ..adapters.streams import RedisStreams
from ..adapters.views import TABLES, UNLOCK, PostgresViews
from ..handlers.projections import ReadModel
from .auth import gate
from .body import StrictJson
from .call import ApiRequest, Gateway, Keys
from .failures import handle
from .routes import controllers
from .settings import Settings

READ_MODEL = "gateway"


@asynccontextmanager
async def bootstrap(platform: Platform[Settings]) -> AsyncIterator[Gateway]:
    settings, redis = platform.settings, platform.redis
    sessions = RedisSessions(
        redis, env=settings.env, idle_seconds=settings.session_seconds,
        longest_seconds=settings.session_longest_seconds,
    )  # fmt: skip
    persons = Persons(platform.bus)

    async def erased(members: set[str]) -> None:
        persons.forget(members)
        await sessions.close_of(members)

    views = ReadModel(messages.codec(), messages.views(), erased=erased)

    def committed(events: Sequence[Envelope]) -> None:
        partitions = {f"{log_of(event)}/{event.partition}" for event in events}
        gateway.wakeups.wake("", *partitions, *{event.tenantid for event in events})

    # A change of the tables or of the fold is a higher definition, beside the one that is live.
    definitions = [Projection(READ_MODEL, 1, TABLES, views.apply, UNLOCK, by=("kind", "tenant"))]
    read_model = await open_projection(platform, messages.categories(), definitions, committed)
    gateway = Gateway(
        settings=settings,
        keys=Keys(
            tenant_svc=parse_public(settings.tenant_svc_public_key),
            connector_svc=parse_public(settings.connector_svc_public_key),
            secret_svc=parse_public(settings.secret_svc_public_key),
        ),
        bus=platform.bus,
        views=PostgresViews(platform.pool, read_model),
        persons=persons,
        kinds=messages.views(),
        sessions=sessions,
        attempts=Attempts(redis, env=settings.env, window_seconds=settings.sign_in_window_seconds),
        idempotency=Idempotency(redis, env=settings.env),
        read_model=read_model,
        streams=RedisStreams(redis, env=settings.env, partitions=settings.partitions),
    )  # fmt: skip

    yield gateway


def application() -> Litestar:
    """The routes. What they use comes with each request, from the edge."""
    return Litestar(
        route_handlers=controllers(),
        before_request=cast(Any, gate),
        dto=StrictJson,
        return_dto=None,
        request_class=ApiRequest,
        # Litestar's type speaks of its own Response; it only calls `to_asgi_response`, which ours has.
        exception_handlers=cast(Any, {Exception: handle}),
        openapi_config=None,
        logging_config=None,
    )


def checks(platform: Platform[Settings], gateway: Gateway) -> dict[str, Check]:
    """What makes the gateway ready."""
    return {
        "redis": functools.partial(_reach, platform.redis.ping),
        "postgres": functools.partial(_reach, functools.partial(platform.pool.fetchval, "select 1", timeout=2)),
        "read model": gateway.read_model.problem,
    }


async def _reach(attempt: object) -> str:
    try:
        await attempt()  # type: ignore[operator]  # two libraries' coroutine functions
    except (RedisError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        return f"away: {type(error).__name__}"
    return ""
