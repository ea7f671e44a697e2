"""What went wrong once, replayed into the code of today. To add one: docs/guides/from-an-incident-to-a-test.md."""

from bizosaas_events.messages import codec
from bizosaas_events.messages.connector import ConnectorInfo
from bizosaas_events.testing.plugin import OpenRecording, Replay
from bizosaas_ports.cms import Content
from connector_svc.domain.call import CALL
from connector_svc.domain.connection import CONNECTION
from connector_svc.testing import MemoryConnectorService, MemoryVendor, a_call

CONNECTION_ID = "01a20d05-ec71-70f6-b59f-68af83264ff6"
KEY = "01a20d05-fa7a-7249-a12e-54d88568cbfe"


class Blog(MemoryVendor):
    """The vendor in memory under the name that the connection of the recording has."""

    def describe(self, key: str) -> ConnectorInfo:
        return super().describe("paper" if key == "wordpress" else key)


async def test_a_call_whose_process_was_killed_is_completed_without_a_second_draft(
    recording: OpenRecording, replayed: Replay
) -> None:
    incident = recording("killed-in-a-call.ndjson", codec())
    killed = incident[:3]  # up to step 3: the process died before step 4
    replayed(killed, CALL).expect(status="started")
    connection = replayed(killed, CONNECTION).state()

    # Given what was known and what was at the vendor at that moment ...
    service = MemoryConnectorService()
    loaded = await killed.load(service.store)
    begun = killed[-1]
    service.secret_svc.values[connection.secret_id] = {1: b'{"password": "correct horse battery"}'}
    service.vendor = Blog(now=service.now)
    service.vendor.drafts[KEY] = Content(id="4", title="Written through a crash", status="draft", url="")
    service.restart()

    # ... when the command is delivered again, to a new process ...
    arguments = {"title": "Written through a crash", "body": "<p>Once.</p>"}
    call = a_call("cms.create_draft", arguments, KEY, id=CONNECTION_ID)
    await service.ask(call, begun.context(), id=begun.causationid)

    # ... then what happened is what the recording says, and the vendor was asked to make nothing.
    await loaded.expect_as_recorded(incident.envelopes, ignoring={"bytes", "digest"})
    assert service.vendor.calls == []
