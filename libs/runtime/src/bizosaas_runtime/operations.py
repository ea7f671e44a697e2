"""The commands of operators about dead letters, which every service with a log accepts: looked at, mended, given up.

What was done is recorded before it is done: whatever happens to the process
between the two, the command is delivered again, and done then.
"""

from typing import Any, cast

import msgspec

from bizosaas_events import (
    AlreadyHandledError,
    Command,
    ConcurrencyError,
    DomainError,
    Envelope,
    Event,
    UndecodableError,
)
from bizosaas_events.bus import Answer, Handler, bind
from bizosaas_events.dead_letters import DeadLetter, DeadLetters
from bizosaas_events.messages.operations import (
    DeadLetterDiscarded,
    DeadLetterEdited,
    DeadLetterPage,
    DeadLetterRetried,
    DeadLetterShown,
    DeadLettersRedriven,
    DeadLettersRetried,
    DeadLettersSelected,
    DiscardDeadLetter,
    ListDeadLetters,
    RedriveDeadLetters,
    RetryDeadLetter,
    SelectDeadLetters,
    ShowDeadLetter,
)
from bizosaas_events.personal import CLOSED
from bizosaas_events.store.base import EventStore, Write
from bizosaas_ports.access import PLATFORM_TENANT

LARGEST_PAGE = 500
LARGEST_REDRIVE = 1000
PARKED_SHOWN = 20
LONGEST_REASON = 500


class LimitInvalidError(DomainError):
    slug = "limit-invalid"

    def __init__(self, largest: int) -> None:
        super().__init__(
            f"The limit must be from 1 to {largest}.", field="limit", remedy=f"Ask for {largest} or fewer."
        )


class ReasonInvalidError(DomainError):
    slug = "reason-invalid"

    def __init__(self) -> None:
        super().__init__(
            f"Giving up a message needs a reason of 1 to {LONGEST_REASON} characters.", field="reason",
            remedy="Say why nobody will miss it.",
        )  # fmt: skip


class PayloadInvalidError(DomainError):
    slug = "payload-invalid"

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The payload does not fit its type: {why}.", field="payload",
            remedy="Change the one that is shown, and leave its type as it is.",
        )  # fmt: skip


class PersonalValueError(DomainError):
    """In clear it would outlive the person's erasure."""

    slug = "personal-value"

    def __init__(self, field: str) -> None:
        super().__init__(
            f"{field} is a person's, and stands here closed.", field=f"payload.{field}",
            remedy="Leave it as it is shown.",
        )  # fmt: skip


async def list_dead_letters(command: ListDeadLetters, envelope: Envelope, *, letters: DeadLetters) -> Answer:
    """Oldest first; parked ones only where a filter asks for that state."""
    if not 1 <= command.limit <= LARGEST_PAGE:
        raise LimitInvalidError(LARGEST_PAGE)
    return Answer(result=DeadLetterPage(items=await letters.page(command.which, command.after, command.limit)))


async def show_dead_letter(command: ShowDeadLetter, envelope: Envelope, *, letters: DeadLetters) -> Answer:
    """One, and what follows it."""
    letter = await letters.find(command.id)
    return Answer(result=DeadLetterShown(letter=letter, parked=await letters.behind(letter, PARKED_SHOWN)))


async def retry_dead_letter(
    command: RetryDeadLetter, envelope: Envelope, *, letters: DeadLetters, store: EventStore
) -> Answer:
    """Record it, then do it.

    Raises PayloadInvalidError for an edited one that its type does not allow, PersonalValueError for one with a
    person's data in clear.
    """
    recorded = await store.handled(envelope.id)
    edited = None
    if recorded is None:
        letter = await letters.ready(command.id)
        event: Event = DeadLetterRetried(**_about(letter))
        if command.payload is not None:
            edited = _checked(store, letter, command.payload)
            event = DeadLetterEdited(**_about(letter), fields=_changed(letter, command.payload))
        recorded = await record(store, *_place(letter), event, envelope)
    elif command.payload is not None:
        known = cast(DeadLetterEdited, store.codec.decode(recorded))
        edited = _payload(known.message_type, command.payload)
    await letters.retry(command.id, edited)
    return Answer(recorded)


async def discard_dead_letter(
    command: DiscardDeadLetter, envelope: Envelope, *, letters: DeadLetters, store: EventStore
) -> Answer:
    """Record why, then forget it."""
    if not 1 <= len(command.reason.strip()) <= LONGEST_REASON:
        raise ReasonInvalidError
    recorded = await store.handled(envelope.id)
    if recorded is None:
        letter = await letters.find(command.id)
        event = DeadLetterDiscarded(**_about(letter), reason=command.reason.strip())
        recorded = await record(store, *_place(letter), event, envelope)
    await letters.discard(command.id)
    return Answer(recorded)


async def select_dead_letters(command: SelectDeadLetters, envelope: Envelope, *, letters: DeadLetters) -> Answer:
    """How many it would be."""
    _require_redrive_limit(command.limit)
    number, confirmation = await letters.select(command.which, command.limit)
    return Answer(result=DeadLettersSelected(letters=number, confirmation=confirmation))


async def redrive_dead_letters(
    command: RedriveDeadLetters, envelope: Envelope, *, letters: DeadLetters, store: EventStore
) -> Answer:
    """Record which, then have each tried again. A redrive of none is recorded, too: somebody confirmed it."""
    _require_redrive_limit(command.limit)
    recorded = await store.handled(envelope.id)
    if recorded is None:
        which = command.which
        ids = await letters.confirmed(which, command.limit, command.confirmation)
        event = DeadLettersRedriven(
            letters=len(ids), letter_ids=ids, consumer=which.consumer, message_type=which.type, tenant_id=which.tenant,
            subject=which.key, failure=which.failure, before=which.before,
        )  # fmt: skip
        recorded = await record(store, f"redrive-{envelope.id}", PLATFORM_TENANT, event, envelope)
    known = cast(DeadLettersRedriven, store.codec.decode(recorded))
    for id in known.letter_ids:
        await letters.retry(id)
    return Answer(recorded, DeadLettersRetried(letters=known.letters))


def handlers(letters: DeadLetters, store: EventStore) -> dict[type[Command], Handler]:
    """The table of them, for a service's own log and database."""
    return bind(*HANDLERS, letters=letters, store=store)


async def record(store: EventStore, stream: str, tenant: str, event: Event, envelope: Envelope) -> Envelope:
    """Record what an operator's command comes to, once, as an event of this tenant's."""
    context = msgspec.structs.replace(envelope.context(), tenant=tenant)
    while True:
        write = Write(stream, len(await store.load(stream)), [event])
        try:
            (recorded,) = await store.append([write], context, command_id=envelope.id)
            return recorded
        except ConcurrencyError:
            continue  # somebody did something about the same one; both are done
        except AlreadyHandledError:
            # Delivered twice at once: whoever was faster may die before it acts, so we act as well.
            return cast(Envelope, await store.handled(envelope.id))


def _place(letter: DeadLetter) -> tuple[str, str]:
    """The stream, and the tenant whose message it is: it is theirs to see what was done about it."""
    return f"deadletter-{letter.id}", letter.tenant or PLATFORM_TENANT


def _about(letter: DeadLetter) -> dict[str, str]:
    return {
        "letter_id": letter.id, "consumer": letter.consumer, "message_type": letter.type, "subject": letter.key,
    }  # fmt: skip


def _payload(type_name: str, payload: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"type": type_name, **payload})


def _checked(store: EventStore, letter: DeadLetter, payload: dict[str, Any]) -> bytes:
    if not store.codec.knows(letter.type):
        raise PayloadInvalidError(f"no message of type {letter.type!r} is known here")
    encoded = _payload(letter.type, payload)
    try:
        message = store.codec.decode_as(letter.type, encoded)
    except UndecodableError as error:
        raise PayloadInvalidError(str(error)) from error
    if isinstance(message, Event):
        for name in set(message.personal) & set(_changed(letter, payload)):
            if not CLOSED.fullmatch(getattr(message, name) or ""):
                raise PersonalValueError(name)
    return encoded


def _changed(letter: DeadLetter, payload: dict[str, Any]) -> list[str]:
    """The names of the fields that are not as recorded; all, where what is recorded cannot be read."""
    try:
        before = msgspec.json.decode(letter.fields["data"], type=dict[str, Any])
    except msgspec.DecodeError:
        before = {}
    names = sorted((before | payload).keys() - {"type"})
    missing = object()
    return [name for name in names if before.get(name, missing) != payload.get(name, missing)]


def _require_redrive_limit(limit: int) -> None:
    if not 1 <= limit <= LARGEST_REDRIVE:
        raise LimitInvalidError(LARGEST_REDRIVE)


HANDLERS = (
    list_dead_letters, show_dead_letter, retry_dead_letter, discard_dead_letter, select_dead_letters,
    redrive_dead_letters,
)  # fmt: skip
