"""Puts the gateway together; the only file that knows every concrete class."""

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import asyncpg
from litestar import Litestar
from redis.exceptions import RedisError

from bizosaas_events import messages
from bizosaas_ports.sealing import parse_public
from bizosaas_runtime.health import Check
from bizosaas_runtime.worker import Consumer, Platform, consumer_of

from ..adapters.idempotency import Idempotency
from ..adapters.rate_limits import Attempts
from ..adapters.sessions import RedisSessions
from ..adapters.streams import RedisStreams
from ..adapters.views import PostgresViews
from ..handlers.projections import ReadModel
from .auth import gate
from .body import StrictJson
from .call import ApiRequest, Gateway, Keys
from .failures import handle
from .routes import controllers
from .settings import Settings

CONSUMER = "gateway"


@asynccontextmanager
async def bootstrap(platform: Platform[Settings]) -> AsyncIterator[Gateway]:
    settings, redis = platform.settings, platform.redis
    read_model = ReadModel(messages.codec(), messages.views())
    consumer = consumer_of(platform, CONSUMER, Consumer(messages.categories(), read_model.apply))
    gateway = Gateway(
        settings=settings,
        keys=Keys(
            tenant_svc=parse_public(settings.tenant_svc_public_key),
            connector_svc=parse_public(settings.connector_svc_public_key),
            secret_svc=parse_public(settings.secret_svc_public_key),
        ),
        bus=platform.bus,
        views=PostgresViews(platform.pool, consumer=CONSUMER),
        kinds=messages.views(),
        sessions=RedisSessions(
            redis, env=settings.env, idle_seconds=settings.session_seconds,
            longest_seconds=settings.session_longest_seconds,
        ),
        attempts=Attempts(redis, env=settings.env, window_seconds=settings.sign_in_window_seconds),
        idempotency=Idempotency(redis, env=settings.env),
        consumer=consumer,
        streams=RedisStreams(redis, env=settings.env, partitions=settings.partitions),
    )  # fmt: skip

    def committed() -> None:
        gateway.wakeups.wake("", *read_model.touched)
        read_model.touched.clear()

    consumer.committed = committed
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
    consumer = gateway.consumer
    return {
        "redis": functools.partial(_reach, platform.redis.ping),
        "postgres": functools.partial(_reach, functools.partial(platform.pool.fetchval, "select 1", timeout=2)),
        "read model": lambda: "; ".join(consumer.failing.values()),
    }


async def _reach(attempt: object) -> str:
    try:
        await attempt()  # type: ignore[operator]  # two libraries' coroutine functions
    except (RedisError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        return f"away: {type(error).__name__}"
    return ""
