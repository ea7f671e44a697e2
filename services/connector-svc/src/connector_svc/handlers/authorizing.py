"""The OAuth 2.0 authorization-code flow: out to the vendor's page, and back with a code.

The state is the person's proof: 32 random bytes, used once, within ten
minutes. Only its SHA-256 is kept, and the PKCE verifier follows from it under
a key, so neither the database nor an event holds anything that redeems a code.
"""

import hashlib
import re
from datetime import timedelta
from urllib.parse import urlsplit

import msgspec

from bizosaas_events import Context, Envelope, execute
from bizosaas_events.bus import Answer
from bizosaas_events.errors import RefusedError
from bizosaas_events.messages.connector import (
    AuthorizeAt,
    Authorized,
    CompleteAuthorization,
    StartAuthorization,
)
from bizosaas_events.store import EventStore
from bizosaas_ports.clock import Clock
from bizosaas_ports.connector import ConnectorError, ScopeMissingError, Tokens
from bizosaas_ports.sealing import SealError, SealingKey

from ..domain.connection import CONNECTION, Request, SendToVendor
from ..domain.errors import (
    AuthorizationRefusedError,
    CodeNotSealedError,
    OAuthIssuerMismatchError,
    OAuthStateExpiredError,
    OAuthStateUnknownError,
    OAuthStateUsedError,
    RedirectUriInvalidError,
    WrongMethodError,
)
from ..domain.ports import (
    Authorizations,
    Authorizer,
    Connectors,
    NewState,
    PendingAuthorization,
    Secrets,
    Verifier,
)
from .connecting import derived, earlier_outcome, establish, refuse, secret_id_of
from .refusals import not_made, refusal_of
from .sessions import Sessions

VALID = timedelta(minutes=10)


async def start_authorization(
    command: StartAuthorization, envelope: Envelope, *, store: EventStore, connectors: Connectors,
    authorizer: Authorizer, authorizations: Authorizations, verifier: Verifier, new_state: NewState, now: Clock,
) -> Answer:  # fmt: skip
    """Say where the person has to go. Handled again it is another way to the same page, and no second event."""
    info = connectors.describe(command.connector)
    if info.method != "oauth":
        raise WrongMethodError(command.connector, info.method)
    settings = connectors.settings(command.connector, command.settings)
    scopes = authorizer.scopes(command.connector, command.scopes)
    _check_redirect(command.redirect_uri)
    id, state = command.connection_id, new_state()
    context = msgspec.structs.replace(envelope.context(), time=now())
    try:
        url = await authorizer.authorize_url(
            command.connector, settings, state=state, verifier=verifier(state), redirect_uri=command.redirect_uri,
            scopes=scopes,
        )  # fmt: skip
    except ConnectorError as error:
        raise refusal_of(error) from error
    request = Request(
        connection_id=id, connector=command.connector, label=command.label, settings=settings, method="oauth"
    )
    await execute(store, CONNECTION, id, request, context)
    pending = PendingAuthorization(
        tenant=context.tenant, actor=context.actor, role=context.role, connection_id=id, connector=command.connector,
        redirect_uri=command.redirect_uri, scopes=scopes, expires_at=context.time + VALID,
    )  # fmt: skip
    await authorizations.add(_hash(state), pending)
    recorded = await store.handled(envelope.id)
    if recorded is None:
        send = SendToVendor(connection_id=id, scopes=scopes, expires_at=pending.expires_at)
        recorded = (await execute(store, CONNECTION, id, send, context, command_id=envelope.id)).recorded[-1]
    return Answer(recorded, AuthorizeAt(connection_id=id, url=url, expires_at=pending.expires_at))


async def complete_authorization(
    command: CompleteAuthorization, envelope: Envelope, *, store: EventStore, connectors: Connectors,
    authorizer: Authorizer, authorizations: Authorizations, secrets: Secrets, sessions: Sessions, key: SealingKey,
    verifier: Verifier, now: Clock,
) -> Answer:  # fmt: skip
    """Redeem the code, keep the tokens, check that they work. The state says for whom, whatever the envelope says."""
    pending = await authorizations.take(_hash(command.state), envelope.id)
    if pending is None:
        raise OAuthStateUnknownError
    if pending.used_by != envelope.id:
        raise OAuthStateUsedError
    id, connector = pending.connection_id, pending.connector
    context = msgspec.structs.replace(envelope.context(), tenant=pending.tenant, actor=pending.actor, role=pending.role)
    authorized = Authorized(connection_id=id, tenant_id=pending.tenant)
    if earlier := await earlier_outcome(store, envelope):
        return Answer(earlier, authorized)
    if pending.expires_at < now():
        raise OAuthStateExpiredError
    secret_id = secret_id_of(envelope)
    settings = (await sessions.state(id, context)).settings
    try:
        if command.error:
            told = AuthorizationRefusedError(f"The vendor's page answered: {_code(command.error)}.")
            return await refuse(store, secrets, envelope, context, id, _code(command.error), told, now)
        if not await authorizer.issued_by(connector, settings, command.issuer):
            mismatch = OAuthIssuerMismatchError()
            return await refuse(store, secrets, envelope, context, id, mismatch.slug, mismatch, now)
        tokens = await _redeemed(
            command, pending, settings, context, authorizer=authorizer, sessions=sessions, key=key, verifier=verifier
        )
        credential = await sessions.keep_safe(context, id, secret_id, tokens, id=derived(envelope.id, "store"))
        account = await connectors.open(connector, settings, credential.value).check()
    except CodeNotSealedError as error:
        return await refuse(store, secrets, envelope, context, id, error.slug, error, now)
    except RefusedError as error:
        return await refuse(store, secrets, envelope, context, id, "misconfigured", error, now)
    except ConnectorError as error:
        detail = str(error)
        told_error = not_made(error.reason, f"{detail} {error.vendor_says}".strip(), error.retry_after)
        return await refuse(store, secrets, envelope, context, id, error.reason, told_error, now, secret_id, detail)
    answer = await establish(
        store, connectors, secrets, envelope, context, id, connector, credential, account, now, scopes=tokens.scopes,
        expires_at=tokens.expires_at,
    )  # fmt: skip
    return Answer(answer.recorded, authorized)


async def _redeemed(
    command: CompleteAuthorization, pending: PendingAuthorization, settings: dict[str, str], context: Context, *,
    authorizer: Authorizer, sessions: Sessions, key: SealingKey, verifier: Verifier,
) -> Tokens:  # fmt: skip
    try:
        code = key.open(command.sealed_code).decode()
    except (SealError, UnicodeDecodeError) as error:
        raise CodeNotSealedError from error
    secret = await sessions.client_secret(pending.connector, context)
    tokens = await authorizer.exchange(
        pending.connector, settings, code=code, verifier=verifier(command.state), redirect_uri=pending.redirect_uri,
        client_secret=secret, scopes=pending.scopes,
    )  # fmt: skip
    missing = authorizer.missing(pending.connector, tokens.scopes)
    if missing:
        raise ScopeMissingError(f"The authorization lacks: {', '.join(missing)}.")
    return tokens


def _check_redirect(uri: str) -> None:
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise RedirectUriInvalidError from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment or len(uri) > 2000:
        raise RedirectUriInvalidError


def _code(error: str) -> str:
    """The vendor's error code, if it is one: it comes from the person's browser."""
    return error if re.fullmatch(r"[a-z0-9_.-]{1,60}", error) else "error"


def _hash(state: str) -> bytes:
    return hashlib.sha256(state.encode()).digest()
