"""Which errors mean that PostgreSQL or Redis is away for now: wait and try again, the event or command is not to blame."""

import asyncpg
from redis import exceptions as redis

DATABASE_OUTAGES: tuple[type[Exception], ...] = (
    asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError, asyncpg.CrashShutdownError, asyncpg.TooManyConnectionsError,
    asyncpg.DeadlockDetectedError, asyncpg.SerializationError,
)  # fmt: skip
OUTAGES: tuple[type[Exception], ...] = (
    OSError, redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError, *DATABASE_OUTAGES,
)  # fmt: skip
