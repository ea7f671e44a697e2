"""Which errors mean that PostgreSQL or Redis is away for now: wait and try again, the event or command is not to blame."""

import asyncpg
from redis import exceptions as redis

DATABASE_OUTAGES: tuple[type[Exception], ...] = (
    asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError, asyncpg.CrashShutdownError,
    asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby that was connected to while it takes over
    asyncpg.InternalClientError,  # seen when the server is killed while a connection is being set up
)  # fmt: skip
OUTAGES: tuple[type[Exception], ...] = (
    OSError, redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError,
    redis.ClusterError, redis.TryAgainError, redis.AskError,  # a cluster in which somebody died or something moves
    *DATABASE_OUTAGES,
)  # fmt: skip

STORAGE_ERRORS: tuple[type[Exception], ...] = (*OUTAGES, redis.RedisError, asyncpg.PostgresError)
"""Whatever the two may raise: for loops that run only our own statements, so that nothing else can be to blame."""
