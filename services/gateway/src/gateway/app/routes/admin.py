"""What operators look at."""

import msgspec
from litestar import Controller, get

from bizosaas_ports.access import Feature

from ..answers import Answer, json_answer
from ..auth import needs
from ..call import ApiRequest


class ConsumerLag(msgspec.Struct, frozen=True, kw_only=True):
    consumer: str
    category: str
    partition: int
    position: int
    end: int
    events_behind: int
    seconds_behind: float
    """How long the next event has waited."""


class Lags(msgspec.Struct, frozen=True, kw_only=True):
    items: list[ConsumerLag]


class Admin(Controller):
    path = "/v1/admin"
    tags = ("Operating",)

    @get("/streams", opt=needs(Feature.PLATFORM_MANAGEMENT, answers=Lags))
    async def show_streams(self, request: ApiRequest) -> Answer:
        """How far each consumer is behind, by partition."""
        found = await request.call.gateway.streams.lags()
        items = [
            ConsumerLag(
                consumer=lag.consumer, category=lag.category, partition=lag.partition, position=lag.position,
                end=lag.end, events_behind=lag.events, seconds_behind=lag.seconds,
            )
            for lag in found
        ]  # fmt: skip
        return json_answer(200, Lags(items=items))
