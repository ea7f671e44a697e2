"""A Redis Cluster as six processes: it is one, and it outlives any of its masters."""

import asyncio
import socket
from pathlib import Path

from redis.asyncio import RedisCluster as Client

from bizosaas_sandbox.servers.redis_cluster import MASTERS, RedisCluster


async def test_a_replica_takes_over_from_a_killed_master_and_the_dead_comes_back_as_its_replica(
    private_redis_cluster: RedisCluster,
) -> None:
    keys = [f"key-{n}" for n in range(100)]
    async with Client.from_url(private_redis_cluster.url.partition("?")[0]) as client:
        for key in keys:
            await client.set(key, key)
        dead = private_redis_cluster.masters()[0]
        dead.kill()

        def replaced() -> bool:
            return len(private_redis_cluster.masters()) == MASTERS

        while not await asyncio.to_thread(replaced):
            await asyncio.sleep(0.05)
        await asyncio.to_thread(private_redis_cluster.settle)
        assert [await client.get(key) for key in keys] == [key.encode() for key in keys]
        await asyncio.to_thread(private_redis_cluster.start)
        assert not dead.is_master


def test_ports_that_were_taken_meanwhile_are_chosen_anew(run_folder: Path) -> None:
    cluster = RedisCluster(run_folder / "redis-cluster-without-ports")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", cluster.nodes[2].port))
        taken.listen()
        with cluster:
            assert cluster.nodes[2].port != taken.getsockname()[1]
            assert len(cluster.masters()) == MASTERS
