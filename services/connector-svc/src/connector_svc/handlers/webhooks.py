"""What vendors send us unasked."""

from bizosaas_events import Envelope
from bizosaas_events.bus import Answer
from bizosaas_events.messages.connector import ReceiveWebhook

from ..domain.errors import NoWebhooksError
from .sessions import Sessions


async def receive_webhook(command: ReceiveWebhook, envelope: Envelope, *, sessions: Sessions) -> Answer:
    """Refuse it: no connector declares a signature to check, and what cannot be checked is not taken."""
    state = await sessions.state(command.connection_id, envelope.context())
    raise NoWebhooksError(state.connector)
