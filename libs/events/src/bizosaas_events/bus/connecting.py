"""One Redis or a Redis Cluster: the same to whoever uses it, but for the question which server holds a key."""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, TypeAlias, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from redis import exceptions
from redis.asyncio import Redis, RedisCluster, client
from redis.asyncio.cluster import ClusterNode, ClusterPipeline
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.exceptions import MovedError, RedisClusterException, RedisError
from redis.maint_notifications import MaintNotificationsConfig

MAX_CONNECTIONS = 2048
"""To one server: as many may ask at once, and on a cluster each hash slot that is waited for has a connection of its
own. redis-py refuses the command that would need the 101st."""
PLAIN = MaintNotificationsConfig(enabled=False)
"""We use nothing that only Redis Enterprise says; and while redis-py listens for it, its pool hands out connections
that died while nobody used them."""
DRIVER = DriverInfo()
"""What a connection says of its driver. redis-py would look into its distribution's files for it, for each anew."""


@contextlib.contextmanager
def outage() -> Iterator[None]:
    """What redis-py raises of a lost cluster becomes its ConnectionError.

    It closes all connections to a server when one breaks; of one that is about
    to write it then says that None has no such attribute.
    """
    try:
        yield
    except RedisClusterException as error:
        raise exceptions.ConnectionError(str(error)) from error
    except AttributeError as error:
        if error.obj is not None:  # a bug, and no connection that is gone
            raise
        raise exceptions.ConnectionError(str(error)) from error


class Server(Protocol):
    """Where connections to one server come from; equal for equal servers."""

    async def get_connection(self) -> AbstractConnection: ...

    async def release(self, connection: AbstractConnection) -> None: ...


class Node(NamedTuple):
    """One server of a cluster."""

    node: ClusterNode

    async def get_connection(self) -> AbstractConnection:
        connection = self.node.acquire_connection()
        try:
            with outage():
                await self.node.disconnect_if_needed(connection)
                if connection.is_connected and await connection.can_read():  # it died while nobody used it
                    await connection.disconnect()
                await connection.connect()  # type: ignore[no-untyped-call]  # redis-py
        except BaseException:
            await connection.disconnect()
            self.node.release(connection)
            raise
        return connection

    async def release(self, connection: AbstractConnection) -> None:
        self.node.release(connection)  # type: ignore[arg-type]  # a node knows only one kind


class Cluster(RedisCluster):
    """redis-py's client of a cluster, except that it raises nothing but RedisError and never repeats a command.

    After an outage it asks anew which server holds what; so does who talks to a
    `Server` by itself, with `learn`.
    """

    async def initialize(self, *args: Any, **kwargs: Any) -> "Cluster":
        with outage():
            await super().initialize(*args, **kwargs)
        return self

    async def aclose(self) -> None:
        await close(self)

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        with outage():
            return await super().execute_command(*args, **kwargs)

    async def ping(self, **kwargs: Any) -> bool:
        """Whether every master answers."""
        answers: dict[str, bool] = await self.execute_command("PING", target_nodes=self.PRIMARIES)
        return all(answers.values()) if isinstance(answers, dict) else bool(answers)

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> "ClusterPipeline":
        return _Pipeline(self)  # type: ignore[abstract]  # redis-py's own is no less so

    async def server_of(self, key: str | bytes) -> Node:
        await self.initialize()
        with outage():
            return Node(self.get_node_from_key(key))  # type: ignore[arg-type]  # bytes will do

    async def learn(self, error: Exception) -> None:
        """Take note of what an error says about who holds what."""
        if isinstance(error, MovedError):
            await self.nodes_manager.move_slot(error)
        else:
            self._initialize = True


class _Pipeline(ClusterPipeline):
    async def execute(self, *args: Any, **kwargs: Any) -> list[Any]:
        try:
            with outage():
                answers = await super().execute(*args, **kwargs)
        except (RedisError, OSError):
            self.cluster_client._initialize = True
            raise
        if any(
            isinstance(answer, exceptions.ConnectionError | exceptions.TimeoutError | OSError) for answer in answers
        ):
            self.cluster_client._initialize = True
        return answers


async def close(client: RedisCluster) -> None:
    """Close all connections of a cluster's client: after an error, redis-py's own `aclose` takes it that there are none."""
    client._initialize = False
    await RedisCluster.aclose(client)


Client: TypeAlias = "Redis | Cluster"
Pipeline: TypeAlias = "client.Pipeline | ClusterPipeline"


def address_of(url: str) -> tuple[str, bool]:
    """The address in `redis://...?cluster=true` as redis-py takes it, and whether it is one of a cluster.

    Raises ValueError when `cluster` is neither true nor false.
    """
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    cluster = options.pop("cluster", "false")
    if cluster not in ("true", "false"):
        raise ValueError("cluster= in the address of Redis is neither true nor false")
    return urlunsplit(parts._replace(query=urlencode(options))), cluster == "true"


def connect(url: str) -> Client:
    """A client of the Redis at `redis://...`; with `?cluster=true` of the cluster that this server is part of.

    Nothing is sent yet. The client repeats nothing by itself: an answer that is
    lost does not mean that an XADD did not happen.
    """
    address, cluster = address_of(url)
    options: dict[str, Any] = {
        "max_connections": MAX_CONNECTIONS, "maint_notifications_config": PLAIN, "driver_info": DRIVER,
    }  # fmt: skip
    if not cluster:
        return Redis.from_url(address, **options)
    return cast("Cluster", Cluster.from_url(address, retry=Retry(NoBackoff(), 0), **options))


async def server_of(redis: Client, key: str | bytes) -> Server:
    """Who holds a key. Raises redis' ConnectionError when a cluster has nobody to say so."""
    if isinstance(redis, Cluster):
        return await redis.server_of(key)
    return redis.connection_pool
