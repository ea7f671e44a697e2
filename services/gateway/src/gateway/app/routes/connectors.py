"""What can be connected."""

from litestar import Controller, get

from bizosaas_events.messages.connector import ConnectorCatalogue, ListConnectors

from ..answers import Answer
from ..auth import needs
from ..call import ApiRequest
from ..writing import ask


class Connectors(Controller):
    path = "/v1/connectors"
    tags = ("Connections",)

    @get("/", opt=needs(ListConnectors, answers=ConnectorCatalogue))
    async def list_connectors(self, request: ApiRequest) -> Answer:
        """The external systems that can be connected, what each asks for and what it can do."""
        return await ask(request.call, ListConnectors())
