"""Nobody's personal data stands in a recording."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bizosaas_events import Context, Event, messages
from bizosaas_events.messages.connector import ConnectionEstablished, ConnectionRefused, ConnectionRequested
from bizosaas_events.messages.tenant import MemberAdded
from bizosaas_events.messages.workflow import ApprovalRequested, WorkflowStarted
from bizosaas_events.personal import PersonKey
from bizosaas_events.store.base import Write
from bizosaas_events.store.memory import MemoryEventStore
from bizosaas_events.testing.account import a_context
from bizosaas_events.testing.masking import PERSONAL, PERSONAL_DATA, PSEUDONYM, Masking
from bizosaas_events.testing.recording import Recording, RecordingError, record

REQUESTED = ConnectionRequested(
    connection_id="c", connector="wordpress", label="Ada's blog",
    settings={"site_url": "https://blog.lovelace.example:8443/wp", "owner": "Ada@Lovelace.example"},
    method="credentials",
)  # fmt: skip
REFUSED = ConnectionRefused(
    connection_id="c", reason="provider-down",
    detail="blog.lovelace.example did not answer for “Ada's blog”; ask ada@lovelace.example or see "
    "https://blog.lovelace.example:8443/wp?u=ada.",
)  # fmt: skip
ADDED = MemberAdded(
    member_id="1", tenant_id="acme", email="ada@lovelace.example", name="Ada Lovelace", role="tenant_admin"
)
ORIGINALS = ("Ada", "ada", "Lovelace", "lovelace", "8443", "/wp")


async def recorded(*events: Event, masking: Masking | None = PERSONAL_DATA, **context: str) -> Recording:
    store = MemoryEventStore(messages.codec(), category="test", source="test")
    await store.append([Write("thing-1", 0, events)], a_context(**context))
    return await record(store, masking=masking)


def text_of(recording: Recording, path: Path) -> str:
    recording.write(path)
    return path.read_text()


async def test_no_original_value_stands_in_the_file(tmp_path: Path) -> None:
    text = text_of(await recorded(REFUSED, REQUESTED, ADDED, actor="ada@lovelace.example"), tmp_path / "r.ndjson")
    assert [original for original in ORIGINALS if original in text] == []


async def test_the_same_value_has_the_same_pseudonym_wherever_it_stands() -> None:
    recording = await recorded(REFUSED, REQUESTED, ADDED)
    refused, requested, added = recording.events()
    assert isinstance(refused, ConnectionRefused)
    assert isinstance(requested, ConnectionRequested)
    assert isinstance(added, MemberAdded)
    host = requested.settings["site_url"].removeprefix("https://")
    assert refused.detail == (
        f"{PSEUDONYM.findall(refused.detail)[0]} did not answer for “{requested.label}”; ask {added.email} or see "
        f"https://{host}"
    )
    assert requested.settings["owner"] == added.email, "capitals make no other address"
    assert added.email.endswith("@masked.invalid"), "what looks like an address still does"


async def test_the_header_says_what_was_masked(tmp_path: Path) -> None:
    recording = await recorded(REFUSED, REQUESTED, ADDED)
    assert recording.header.masked == {
        "(other text)": 1, "email": 1, "label": 1, "name": 1, "settings.owner": 1, "settings.site_url": 1,
    }  # fmt: skip
    assert "replaced by pseudonyms" in recording.header.note


async def test_two_recordings_of_the_same_events_have_nothing_in_common() -> None:
    one, two = [msgspec.to_builtins((await recorded(ADDED)).events()[0]) for _ in range(2)]
    assert one["email"] != two["email"]
    assert one["name"] != two["name"]


async def test_what_is_nobodys_stays() -> None:
    (started,) = (await recorded(WorkflowStarted(workflow_id="w", name="content_approval", input={}))).events()
    assert isinstance(started, WorkflowStarted)
    assert PSEUDONYM.fullmatch(started.name), "by its name alone it might be a person's"

    masking = Masking(kept=frozenset({"workflow.workflow.started.v1:name"}))
    event = WorkflowStarted(workflow_id="w", name="content_approval", input={"name": "Ada"})
    (started,) = (await recorded(event, masking=masking)).events()
    assert isinstance(started, WorkflowStarted)
    assert started.name == "content_approval"
    assert PSEUDONYM.fullmatch(started.input["name"]), "only the message's own field is kept"


async def test_words_of_the_language_stay_even_when_somebody_is_called_so() -> None:
    recording = await recorded(msgspec.structs.replace(REQUESTED, label="oauth"), msgspec.structs.replace(
        REQUESTED, label="credentials"
    ))  # fmt: skip
    assert [msgspec.to_builtins(event)["method"] for event in recording.events()] == ["credentials", "credentials"]


async def test_fields_are_found_at_any_depth_and_by_their_last_word() -> None:
    arguments = {"to": [{"contact_email": "a@b.example", "first_name": "Ada"}], "n": 3, "a@b.example": "x"}
    event = ApprovalRequested(
        approval_id="a", workflow_id="w", operation="mail.send", connection_id="c", arguments=arguments,
        arguments_digest="", requested_by="member:1", deadline=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    (masked,) = (await recorded(event)).events()
    assert isinstance(masked, ApprovalRequested)
    (to,), (key, _) = masked.arguments["to"], [k for k in masked.arguments if k not in ("to", "n")] + [""]
    assert PSEUDONYM.fullmatch(to["contact_email"])
    assert PSEUDONYM.fullmatch(to["first_name"])
    assert key == to["contact_email"]
    assert masked.arguments["n"] == 3


async def test_a_field_that_is_no_free_text_is_refused_with_the_remedy() -> None:
    masking = Masking(fields=PERSONAL | {"method"})
    with pytest.raises(RecordingError, match=r"cannot be read any more .*method.*`kept`"):
        await recorded(REQUESTED, masking=masking)


async def test_what_was_masked_is_not_masked_again() -> None:
    recording = await recorded(REQUESTED, ADDED)
    store = MemoryEventStore(messages.codec(), category="test", source="test")
    await recording.load(store)
    assert (await record(store)).events() == recording.events()


WORDS = st.text("qzxjäß漢.'- ", min_size=4, max_size=16).filter(lambda text: len(text.strip(" .'-")) >= 4)


@given(name=WORDS, label=WORDS, account=WORDS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_people_are_called_is_gone_from_sentences_too(
    name: str, label: str, account: str, tmp_path: Path
) -> None:
    events = [
        ConnectionRefused(
            connection_id="c", reason="x", detail=f"{account.strip()}: “{label.strip()}”, {name.strip()}"
        ),
        msgspec.structs.replace(REQUESTED, label=label),
        msgspec.structs.replace(ADDED, name=name),
        ConnectionEstablished(connection_id="c", secret_id="s", secret_version=1, fingerprint="f", account=account),
    ]
    text = text_of(asyncio.run(recorded(*events)), tmp_path / "r.ndjson")
    assert [value for value in (name, label, account) if value.strip() in text] == []


def test_a_context_is_all_that_is_left_of_a_person() -> None:
    """Ids stay: without them nothing could be followed, and only the platform knows whose they are."""
    context: Context = a_context(actor="member:0190a000-0000-7000-8000-00000000c0de")
    recording = asyncio.run(recorded(ADDED, actor=context.actor))
    assert recording.envelopes[0].actorid == context.actor


async def test_a_closed_value_is_masked_where_its_key_is_not_to_be_had(tmp_path: Path) -> None:
    class Elsewhere(MemoryEventStore):
        async def person_keys(self, persons: Sequence[str]) -> dict[str, PersonKey]:
            return {}

    store = Elsewhere(messages.codec(), category="test", source="test")
    await store.append([Write("thing-1", 0, [ADDED])], a_context())

    text = text_of(await record(store), tmp_path / "r.ndjson")
    plain = text_of(await record(store, masking=None), tmp_path / "plain.ndjson")

    assert "closed(" not in text
    assert "closed(v1:1:" in plain
    assert [original for original in ORIGINALS if original in text + plain] == []
