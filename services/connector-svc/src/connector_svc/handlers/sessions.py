"""Connections made ready to call: credential leased, refreshed when its time is over, and their health kept.

A refresh happens under a lease, because vendors that rotate end the whole
grant when one refresh token comes twice. It is written down before the vendor
is asked, and the old pair is kept until the new one has worked.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar
from uuid import NAMESPACE_OID, uuid5

import msgspec
import structlog

from bizosaas_events import Context, StreamNotFoundError, execute
from bizosaas_events.errors import RefusedError
from bizosaas_events.handling import load_state
from bizosaas_events.messages.connector import Trouble
from bizosaas_events.store import EventStore
from bizosaas_ports.access import PLATFORM_TENANT
from bizosaas_ports.clock import Clock
from bizosaas_ports.connector import (
    ConnectorError,
    ConnectorPort,
    CredentialExpiredError,
    CredentialRevokedError,
    MisconfiguredError,
    RateLimitedError,
    Tokens,
)

from ..domain.connection import (
    CONNECTION,
    BeginRefresh,
    ConnectionCommand,
    FinishRefresh,
    Interrupt,
    Recover,
    State,
)
from ..domain.errors import (
    ConnectionClosedError,
    NotConnectedError,
    ReconnectNeededError,
    RefreshInProgressError,
)
from ..domain.ports import (
    Authorizer,
    Budget,
    Connectors,
    Credential,
    Lease,
    LeaseLostError,
    Leases,
    LeaseTakenError,
    Secrets,
    SecretsUnavailableError,
)

MARGIN = timedelta(seconds=30)
"""A token that ends sooner is refreshed before the call; of a short-lived one, a fifth of its life."""
REFRESH_WAIT = 25.0
"""Seconds that a call waits while another refreshes: longer than the vendor may take."""
LONGEST_OUTAGE = 600.0
PAUSE = 30.0

_TROUBLES: dict[str, tuple[Trouble, bool]] = {
    "revoked": ("revoked", True), "expired": ("expired", True), "provider-down": ("provider-down", False),
    "misconfigured": ("misconfigured", False),
}  # fmt: skip
"""The reasons that lie in the connection, and whether a person has to connect again."""

_log = structlog.get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Opened:
    """A connection ready to be called, on somebody's behalf."""

    id: str
    state: State
    context: Context
    purpose: str
    credential: Credential
    port: ConnectorPort


class Sessions:
    """Opens connections and runs calls through them."""

    def __init__(
        self, *, store: EventStore, connectors: Connectors, secrets: Secrets, authorizer: Authorizer, leases: Leases,
        budget: Budget, now: Clock, refresh_wait: float = REFRESH_WAIT,
    ) -> None:  # fmt: skip
        self._store = store
        self._connectors = connectors
        self._secrets = secrets
        self._authorizer = authorizer
        self._leases = leases
        self._budget = budget
        self._now = now
        self._refresh_wait = refresh_wait

    async def state(self, id: str, context: Context) -> State:
        """The connection's state. Raises StreamNotFoundError."""
        state, version = await load_state(self._store, CONNECTION, id, context.tenant)
        if version == 0:
            raise StreamNotFoundError(CONNECTION.stream(id))
        return state

    async def open(self, id: str, context: Context, purpose: str, *, probing: bool = False) -> Opened:
        """Lease the credential, refreshed if need be. `probing`: also where a person was asked to reconnect.

        Raises a DomainError where the connection cannot be called at all,
        ConnectorError where refreshing failed.
        """
        state = await self.state(id, context)
        if state.status == "closed":
            raise ConnectionClosedError
        if not state.secret_id:
            raise NotConnectedError
        if state.status == "interrupted" and state.reconnect and not probing:
            raise ReconnectNeededError(state.detail)
        state, credential = await self._lease(id, state, context, purpose)
        opened = self._opened(id, state, context, purpose, credential)
        if state.method == "oauth" and self._ends_soon(msgspec.json.decode(credential.value, type=Tokens)):
            try:
                return await self._renewed(opened)
            except ConnectorError as error:
                await self.note(opened, error)
                raise
        return opened

    async def run(self, opened: Opened, act: Callable[[ConnectorPort], Awaitable[T]]) -> T:
        """Call through a connection; after a 401 refresh once and call again.

        What the outcome says about the connection is recorded; the outcome
        itself is the caller's. Raises what `act` raises.
        """
        try:
            try:
                result = await act(opened.port)
            except CredentialExpiredError:
                if opened.state.method != "oauth":
                    raise
                opened = await self._renewed(opened)
                try:
                    result = await act(opened.port)
                except CredentialExpiredError as error:
                    raise CredentialRevokedError(str(error), status=error.status) from error
        except ConnectorError as error:
            await self.note(opened, error)
            raise
        if opened.state.status != "connected":
            await self._record(opened, Recover(connection_id=opened.id))
        await self._secrets.confirm(opened.context, opened.credential)
        return result

    async def note(self, opened: Opened, error: ConnectorError) -> None:
        """Record what a failure says about the connection: nothing, where the request was at fault."""
        if isinstance(error, RateLimitedError):
            await self._budget.pause(opened.id, error.retry_after or PAUSE)
        if error.reason not in _TROUBLES:
            return
        reason, reconnect = _TROUBLES[error.reason]
        credential = opened.credential
        await self._record(
            opened,
            Interrupt(
                connection_id=opened.id, secret_id=credential.secret_id, secret_version=credential.version,
                reason=reason, reconnect=reconnect, detail=str(error),
            ),
        )  # fmt: skip

    async def revoke_at_vendor(self, opened: Opened) -> None:
        """End the grant at the vendor, where there is one and it has a way. Raises ConnectorError."""
        if opened.state.method == "oauth":
            tokens = msgspec.json.decode(opened.credential.value, type=Tokens)
            secret = await self.client_secret(opened.state.connector, opened.context)
            await self._authorizer.revoke(opened.state.connector, opened.state.settings, tokens, secret)

    async def client_secret(self, connector: str, context: Context) -> str:
        """The secret of our own OAuth application. Raises MisconfiguredError when the platform has none."""
        if not self._authorizer.needs_secret(connector):
            return ""
        ours = msgspec.structs.replace(context, tenant=PLATFORM_TENANT)
        try:
            found = await self._secrets.lease(ours, f"oauth-{connector}", None, f"the OAuth application of {connector}")
        except RefusedError as error:
            raise MisconfiguredError(f"The platform's client secret for {connector} cannot be read.") from error
        return found.value.decode()

    async def _lease(self, id: str, state: State, context: Context, purpose: str) -> tuple[State, Credential]:
        """The credential of the state; of the state by now, if that one was replaced and destroyed meanwhile."""
        try:
            return state, await self._secrets.lease(context, state.secret_id, state.secret_version, purpose)
        except RefusedError:
            newer = await self.state(id, context)
            if (newer.secret_id, newer.secret_version) == (state.secret_id, state.secret_version):
                raise
            return newer, await self._secrets.lease(context, newer.secret_id, newer.secret_version, purpose)

    def _ends_soon(self, tokens: Tokens) -> bool:
        if tokens.expires_at is None:
            return False
        life = tokens.expires_at - tokens.issued_at if tokens.issued_at else MARGIN * 5
        return self._now() >= tokens.expires_at - min(MARGIN, life / 5)

    async def _renewed(self, opened: Opened) -> Opened:
        """The connection with a newer credential: another process's, or one we ask for. Raises ConnectorError."""
        try:
            async with self._leases.hold(f"refresh:{opened.id}", wait=self._refresh_wait) as lease:
                state = await self.state(opened.id, opened.context)
                if state.status == "closed":
                    raise ConnectionClosedError
                if (state.secret_id, state.secret_version) != (opened.credential.secret_id, opened.credential.version):
                    state, credential = await self._lease(opened.id, state, opened.context, opened.purpose)
                    return self._opened(opened.id, state, opened.context, opened.purpose, credential)
                credential = await self._left_behind(opened, state) or await self._refreshed(opened, state, lease)
                return await self._adopt(opened, credential)
        except (LeaseTakenError, LeaseLostError) as error:
            raise RefreshInProgressError(2.0) from error

    async def _left_behind(self, opened: Opened, state: State) -> Credential | None:
        """The new pair of a refresh whose process died after storing it."""
        if not state.refreshing:
            return None
        newest = await self._secrets.lease(opened.context, state.secret_id, None, opened.purpose)
        return newest if newest.version > state.secret_version else None

    async def _refreshed(self, opened: Opened, state: State, lease: Lease) -> Credential:
        tokens = msgspec.json.decode(opened.credential.value, type=Tokens)
        if not tokens.refresh_token:
            raise CredentialExpiredError("The authorization has run out, and the vendor offers no renewal.")
        secret = await self.client_secret(state.connector, opened.context)
        await self._record(opened, BeginRefresh(connection_id=opened.id, secret_version=state.secret_version))
        await lease.check()
        renewed = await self._authorizer.refresh(state.connector, state.settings, tokens, secret)
        id = str(uuid5(NAMESPACE_OID, f"bizosaas:connector-svc:refresh:{state.secret_id}:{lease.fence}"))
        # Under the lease meanwhile: nobody else may try the old pair, which a vendor that rotates would take for theft.
        return await self.keep_safe(opened.context, opened.id, state.secret_id, renewed, id=id)

    async def keep_safe(
        self, context: Context, connection_id: str, secret_id: str, tokens: Tokens, *, id: str
    ) -> Credential:
        """Have tokens stored, however long secret-svc is away: the vendor gives them once."""
        value, pause = msgspec.json.encode(tokens), 0.2
        until = asyncio.get_running_loop().time() + LONGEST_OUTAGE
        while True:
            try:
                return await self._secrets.store_value(
                    context, secret_id, "oauth_tokens", value, f"connection {connection_id}", id=id
                )
            except SecretsUnavailableError:
                if asyncio.get_running_loop().time() > until:
                    raise
                _log.warning("tokens not stored yet", connection=connection_id)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)

    async def _adopt(self, opened: Opened, credential: Credential) -> Opened:
        tokens = msgspec.json.decode(credential.value, type=Tokens)
        await self._record(
            opened,
            FinishRefresh(
                connection_id=opened.id, secret_id=credential.secret_id, secret_version=credential.version,
                fingerprint=credential.fingerprint, credential_expires_at=tokens.expires_at,
            ),
        )  # fmt: skip
        state = await self.state(opened.id, opened.context)
        return self._opened(opened.id, state, opened.context, opened.purpose, credential)

    def _opened(self, id: str, state: State, context: Context, purpose: str, credential: Credential) -> Opened:
        port = self._connectors.open(state.connector, state.settings, credential.value)
        return Opened(id, state, context, purpose, credential, port)

    async def _record(self, opened: Opened, command: ConnectionCommand) -> None:
        context = msgspec.structs.replace(opened.context, time=self._now())
        await execute(self._store, CONNECTION, opened.id, command, context)
