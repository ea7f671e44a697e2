"""What operators do about projections, by commands that may be delivered again at any time."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from bizosaas_events import Command, messages, new_id
from bizosaas_events.bus.base import answer, command_envelope
from bizosaas_events.bus.connecting import connect
from bizosaas_events.consumer import Apply, Enter, Feed, OrderedConsumer
from bizosaas_events.envelope import Reply
from bizosaas_events.messages.operations import BuildProjection, DropProjection, SwapProjection
from bizosaas_events.projecting import Projector
from bizosaas_events.store.migrating import migrate
from bizosaas_events.store.postgres import PostgresEventStore, open_pool
from bizosaas_events.testing.account import a_context
from bizosaas_events.versions import Projection, Versions
from bizosaas_ports.access import PLATFORM_TENANT
from bizosaas_runtime.rebuilding import handlers

PARTITIONS = 1


class Stage:
    """A service with one projection, of which nothing is consumed."""

    def __init__(self, store: PostgresEventStore, projector: Projector) -> None:
        self.store = store
        self.projector = projector

    async def deliver(self, command: Command, id: str) -> Reply:
        context = a_context(PLATFORM_TENANT, role="platform_admin", actor="member:petra")
        envelope = command_envelope(command, context, self.store.codec, id=id, source="test")
        return await answer(
            envelope, command, handlers({"balances": self.projector}, self.store), category="account",
            allows=lambda role, permission: True, handled=self.store.handled,
        )  # fmt: skip

    async def states(self) -> dict[int, str]:
        return {version.number: version.state for version in await self.projector.versions.all()}


@pytest.fixture
async def stage(
    database_template: Callable[[str, Callable[[str], object]], str], new_database: Callable[..., str], redis_url: str,
    env_name: str,
) -> AsyncIterator[Stage]:  # fmt: skip
    url = new_database(template=database_template("event_log", migrate))
    redis = connect(redis_url)
    async with open_pool(url, min_size=1, max_size=4) as pool:
        store = PostgresEventStore(pool, messages.codec(), category="account", source="test", partitions=PARTITIONS)

        async def apply(connection: Any, envelopes: Any) -> None:
            raise AssertionError("nothing is consumed here")

        def make(name: str, apply: Apply, *, enter: Enter) -> OrderedConsumer:
            feeds = [Feed("account", PARTITIONS, store)]
            return OrderedConsumer(
                name, feeds, apply, pool=pool, redis=redis, env=env_name, instance="a", enter=enter
            )  # fmt: skip

        projection = Projection("balances", 1, "create table balance (id text primary key)", apply)
        versions = Versions("balances", {"account": PARTITIONS}, pool=pool, redis=redis, env=env_name)
        projector = Projector([projection], versions, make, pool)
        await projector.open()
        yield Stage(store, projector)
    await redis.aclose()


async def test_a_build_that_is_delivered_again_is_the_one_that_was_begun(stage: Stage) -> None:
    build, id = BuildProjection(at="account", projection="balances"), new_id()
    first, again = await stage.deliver(build, id), await stage.deliver(build, id)
    another = await stage.deliver(build, new_id())

    assert (first.problem, again.problem) == (None, None)
    assert again.position == first.position
    assert another.problem is not None
    assert another.problem.slug == "projection-being-built"
    assert await stage.states() == {1: "live", 2: "building"}


async def test_a_swap_that_is_delivered_again_does_not_undo_the_way_back(stage: Stage) -> None:
    await stage.deliver(BuildProjection(at="account", projection="balances"), new_id())
    there, id = SwapProjection(at="account", projection="balances", version=2), new_id()
    first = await stage.deliver(there, id)
    back = await stage.deliver(SwapProjection(at="account", projection="balances", version=1), new_id())
    again = await stage.deliver(there, id)

    assert [reply.problem for reply in (first, back, again)] == [None, None, None]
    assert again.position == first.position != back.position
    assert await stage.states() == {1: "live", 2: "kept"}


async def test_a_drop_is_recorded_once(stage: Stage) -> None:
    await stage.deliver(BuildProjection(at="account", projection="balances"), new_id())
    drop, id = DropProjection(at="account", projection="balances", version=2), new_id()
    first, again = await stage.deliver(drop, id), await stage.deliver(drop, id)

    assert first.problem is None
    assert again.position == first.position
    assert await stage.states() == {1: "live", 2: "dropped"}
