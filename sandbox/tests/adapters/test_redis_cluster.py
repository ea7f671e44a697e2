"""A Redis Cluster as six processes: it is one, and it outlives any of its masters."""

import asyncio

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
