"""The commands of tenant-svc."""

import base64

import msgspec

from bizosaas_events import AlreadyHandledError, Envelope, StreamNotFoundError, execute
from bizosaas_events.bus import Answer
from bizosaas_events.handling import load_state
from bizosaas_events.messages.tenant import (
    AddMember,
    CreateTenant,
    EraseMember,
    PersonKeys,
    ReadPersonKeys,
    SignedIn,
    SignIn,
)
from bizosaas_events.store import EventStore
from bizosaas_ports.access import PLATFORM_TENANT
from bizosaas_ports.sealing import SealError, SealingKey, seal

from ..domain.errors import (
    EmailTakenError,
    NotSealedError,
    PasswordWeakError,
    RecipientError,
    SignInRefusedError,
    SlugTakenError,
)
from ..domain.member import MEMBER, Admit, Erase, NoteSignIn, decide, normal
from ..domain.member import State as MemberState
from ..domain.ports import Account, Accounts, Passwords
from ..domain.tenant import TENANT
from ..domain.tenant import decide as decide_tenant

SHORTEST_PASSWORD = 12


async def create_tenant(command: CreateTenant, envelope: Envelope, *, store: EventStore, accounts: Accounts) -> Answer:
    """Make a tenant. The slug is claimed first: a crash in between leaves a claim that a retry fulfils."""
    decide_tenant(command, None)
    if not await accounts.claim_slug(command.slug, command.tenant_id):
        raise SlugTakenError(command.slug)
    context = envelope.context()
    handled = await execute(store, TENANT, command.tenant_id, command, context, command_id=envelope.id, new=True)
    return Answer(handled.recorded[-1])


async def add_member(
    command: AddMember, envelope: Envelope, *, store: EventStore, accounts: Accounts, passwords: Passwords,
    key: SealingKey,
) -> Answer:  # fmt: skip
    """Give a person access. The address is claimed with the hash before the event: without it nobody could sign in."""
    context = envelope.context()
    if context.tenant != PLATFORM_TENANT:
        _, version = await load_state(store, TENANT, context.tenant, context.tenant)
        if version == 0:
            raise StreamNotFoundError(TENANT.stream(context.tenant))
    email, name = _open_text(key, command.email, "email"), _open_text(key, command.name, "name")
    command = msgspec.structs.replace(command, email=email, name=name)
    admit = Admit(request=command, tenant_id=context.tenant, giver_role=context.role)
    decide(admit, MemberState())
    password = _open(key, command.sealed_password)
    if len(password) < SHORTEST_PASSWORD:
        raise PasswordWeakError(SHORTEST_PASSWORD)
    account = Account(
        member_id=command.member_id, tenant_id=context.tenant, role=command.role,
        password_hash=await passwords.hash(password),
    )  # fmt: skip
    state, _ = await load_state(store, MEMBER, command.member_id, context.tenant)
    if not state.erased and not await accounts.claim_email(normal(email), account):
        raise EmailTakenError
    handled = await execute(store, MEMBER, command.member_id, admit, context, command_id=envelope.id)
    return Answer(handled.recorded[-1])


async def sign_in(
    command: SignIn, envelope: Envelope, *, store: EventStore, accounts: Accounts, passwords: Passwords,
    key: SealingKey, decoy_hash: str,
) -> Answer:  # fmt: skip
    """Check a password. An unknown address costs as much time as a wrong password, against the decoy."""
    password = _open(key, command.sealed_password)
    account = await accounts.find(normal(_open_text(key, command.email, "email")))
    right = await passwords.verify(account.password_hash if account else decoy_hash, password)
    if account is None:
        raise SignInRefusedError
    actor = f"member:{account.member_id}"
    context = msgspec.structs.replace(envelope.context(), tenant=account.tenant_id, actor=actor, role=account.role)
    note = NoteSignIn() if right else NoteSignIn(reason="wrong password")
    handled = await execute(store, MEMBER, account.member_id, note, context)
    if not right:
        raise SignInRefusedError
    if passwords.outdated(account.password_hash):
        await accounts.replace_hash(account.member_id, await passwords.hash(password))
    member = handled.state
    signed_in = SignedIn(
        member_id=account.member_id, tenant_id=account.tenant_id, email=member.email, name=member.name,
        role=member.role,
    )  # fmt: skip
    return Answer(handled.recorded[-1], signed_in)


async def erase_member(command: EraseMember, envelope: Envelope, *, store: EventStore, accounts: Accounts) -> Answer:
    """End a person's access and destroy their key. From the event on nobody signs in as them; a repeat of the command
    takes away the account that a crash left behind."""
    context = envelope.context()
    _, version = await load_state(store, MEMBER, command.member_id, context.tenant)
    if version == 0:
        raise StreamNotFoundError(MEMBER.stream(command.member_id))
    erase = Erase(actor=context.actor, actor_role=context.role)
    try:
        handled = await execute(store, MEMBER, command.member_id, erase, context, command_id=envelope.id)
        recorded = handled.recorded[-1] if handled.recorded else None
    except AlreadyHandledError:
        recorded = await store.handled(envelope.id)
    await accounts.remove(command.member_id)
    return Answer(recorded)


async def read_person_keys(command: ReadPersonKeys, envelope: Envelope, *, store: EventStore) -> Answer:
    """Lend the keys of members of the caller's tenant and of the platform, whose names stand in every tenant's history.

    Anybody can write what looks like a closed value into a text of theirs: another tenant's must not be opened for it.
    """
    found = await store.person_keys(command.member_ids)
    keys = {
        id: base64.b64encode(key).decode() if key is not None else None
        for id, (tenant, key) in found.items()
        if tenant in (envelope.tenantid, PLATFORM_TENANT)
    }
    try:
        return Answer(None, PersonKeys(sealed=seal(command.recipient, msgspec.json.encode(keys))))
    except SealError as error:
        raise RecipientError from error


def _open(key: SealingKey, sealed: bytes) -> str:
    try:
        return key.open(sealed).decode()
    except (SealError, UnicodeDecodeError) as error:
        raise NotSealedError("sealed_password") from error


def _open_text(key: SealingKey, text: str, field: str) -> str:
    try:
        return key.open_text(text)
    except SealError as error:
        raise NotSealedError(field) from error


HANDLERS = (create_tenant, add_member, sign_in, erase_member, read_person_keys)
