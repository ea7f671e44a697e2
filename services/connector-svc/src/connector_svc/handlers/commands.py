"""The commands of connector-svc: the table of all of them."""

from bizosaas_events import Envelope
from bizosaas_events.bus import Answer
from bizosaas_events.messages.connector import CallOperation

from .authorizing import complete_authorization, start_authorization
from .calls import Calls
from .connecting import check_connection, connect, disconnect, rename_connection
from .queries import list_connectors
from .webhooks import receive_webhook


async def call_operation(command: CallOperation, envelope: Envelope, *, calls: Calls) -> Answer:
    """Do one operation through a connection; see `Calls`."""
    return await calls.make(command, envelope)


HANDLERS = (
    connect,
    start_authorization,
    complete_authorization,
    call_operation,
    check_connection,
    rename_connection,
    disconnect,
    list_connectors,
    receive_webhook,
)
