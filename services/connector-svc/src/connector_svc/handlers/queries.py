"""Questions to connector-svc."""

from bizosaas_events import Envelope
from bizosaas_events.bus import Answer
from bizosaas_events.messages.connector import ConnectorCatalogue, ListConnectors

from ..domain.ports import Connectors


async def list_connectors(command: ListConnectors, envelope: Envelope, *, connectors: Connectors) -> Answer:
    """What can be connected, and what it takes."""
    return Answer(None, ConnectorCatalogue(connectors=connectors.all()))
