"""Where streams stand, told by a real Redis and by a cluster."""

from bizosaas_events.bus.base import Names
from bizosaas_events.bus.connecting import Client
from bizosaas_events.bus.stands import Stand, stands


async def test_each_stream_is_told_in_the_order_asked(redis: Client, env_name: str) -> None:
    names = Names(env_name)
    for position in range(4, 8):
        await redis.xadd(names.partition("tenant", 0), {"data": "{}"}, id=f"{position}-0")
    await redis.xadd(names.partition("tenant", 2), {"data": "{}"}, id="9-0")
    await redis.xdel(names.partition("tenant", 2), "9-0")
    await redis.hset(names.behind("tenant", 1), mapping={"audit": "0", "gateway@1": "3"})

    assert await stands(redis, names, "tenant", [2, 1, 0]) == [
        Stand(last=9, first=0, behind={}),
        Stand(last=0, first=0, behind={"audit": 0, "gateway@1": 3}),
        Stand(last=7, first=4, behind={}),
    ]
