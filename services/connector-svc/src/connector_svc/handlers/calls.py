"""Calls to vendors, with their effect once.

A call is written down before it is made. Who finds one that was begun and not
ended looks it up at the vendor first, and where the vendor offers no way the
call stays uncertain: it is never tried blindly again.
"""

import asyncio
import time

import msgspec

from bizosaas_events import Context, Envelope, UnavailableError, execute
from bizosaas_events.bus import Answer
from bizosaas_events.messages.connector import (
    CallFailed,
    CallOperation,
    CallSucceeded,
    CallUncertain,
    OperationResult,
)
from bizosaas_events.store import EventStore
from bizosaas_ports.clock import Clock
from bizosaas_ports.connector import (
    CallResult,
    ConnectorError,
    ConnectorPort,
    MaybeAppliedError,
    ProviderDownError,
    ResourceNotFoundError,
)

from ..domain.call import CALL, Begin, Settle
from ..domain.errors import (
    CallInProgressError,
    CallUncertainError,
    VendorLimitError,
)
from ..domain.ports import Budget, Connectors, Leases, LeaseTakenError, SecretsUnavailableError
from .gate import Gate
from .planning import Call, digest_of, planned
from .refusals import RETRY_AFTER, refusal, refusal_of
from .sessions import Opened, Sessions

PATIENCE = 2.0
"""Seconds we wait for a rate limit to pass before we refuse."""
CALL_WAIT = 8.0
"""Longer than the lease of a process that died: its call is taken over, not refused."""


class Calls:
    """Makes calls through connections."""

    def __init__(
        self, *, store: EventStore, sessions: Sessions, connectors: Connectors, leases: Leases, budget: Budget,
        gate: Gate, now: Clock, call_wait: float = CALL_WAIT,
    ) -> None:  # fmt: skip
        self._store = store
        self._sessions = sessions
        self._connectors = connectors
        self._leases = leases
        self._budget = budget
        self._gate = gate
        self._now = now
        self._call_wait = call_wait

    async def make(self, command: CallOperation, envelope: Envelope) -> Answer:
        """Make the call, or answer what came of it when it was made before."""
        context = envelope.context()
        state = await self._sessions.state(command.connection_id, context)
        call = planned(command, envelope, self._connectors.describe(state.connector))
        earlier = await self._store.handled(envelope.id)
        if earlier is not None:
            self._refuse_again(earlier)
        with self._gate.enter(call.connection_id, state):
            await self._keep_budget(call)
            try:
                if call.is_read:
                    return await self._read(call, context, envelope.id, earlier)
                async with self._leases.hold(f"call:{call.id}", wait=self._call_wait):
                    return await self._effect(call, context, envelope.id, earlier)
            except LeaseTakenError as error:
                raise CallInProgressError(RETRY_AFTER) from error

    def _refuse_again(self, earlier: Envelope) -> None:
        """A command that comes again after it failed is told so again, and changes nothing."""
        match self._store.codec.decode(earlier):
            case CallFailed(reason=reason, detail=detail):
                raise refusal(reason, detail)
            case CallUncertain(detail=detail):
                raise CallUncertainError(detail)
            case _:
                return

    async def _keep_budget(self, call: Call) -> None:
        wait = await self._budget.wait_seconds(call.connection_id)
        if wait > PATIENCE:
            raise VendorLimitError(
                f"The vendor asked not to be called for {wait:.0f} more seconds.", field="connection_id",
                remedy="Wait for as long as is said.", retry_after=wait,
            )  # fmt: skip
        await asyncio.sleep(wait)

    async def _read(self, call: Call, context: Context, command_id: str, earlier: Envelope | None) -> Answer:
        """Reads are simply made, and made again: the caller waits for data, which is nowhere kept."""
        try:
            opened = await self._open(call, context)
            if earlier is not None:
                return await self._read_again(call, opened, earlier)
            await self._begin(call, opened)
            return await self._attempt(call, opened, command_id)
        except SecretsUnavailableError as error:
            # An effect waits for the outage to end; a read is of use only now. It is not the vendor who is away.
            raise UnavailableError(str(error), remedy="Try again.", retry_after=RETRY_AFTER) from error

    async def _read_again(self, call: Call, opened: Opened, earlier: Envelope) -> Answer:
        """It was recorded, and the answer with its data was lost on the way."""
        try:
            result = await self._sessions.run(opened, lambda port: self._ask(port, call))
        except ConnectorError as error:
            raise refusal_of(error) from error
        return Answer(earlier, _answered(call, result, repeated=True))

    async def _effect(self, call: Call, context: Context, command_id: str, earlier: Envelope | None) -> Answer:
        opened = await self._open(call, context)
        begun = await self._begin(call, opened)
        if begun == "succeeded":
            return await self._repeat(call, opened, earlier)
        if begun == "resumed":
            found = await self._look_up(call, opened, command_id)
            if found is not None:
                return await self._succeeded(call, opened, found, command_id, 0, repeated=True)
        return await self._attempt(call, opened, command_id)

    async def _open(self, call: Call, context: Context) -> Opened:
        try:
            return await self._sessions.open(call.connection_id, context, f"{call.operation.name} of {call.id}")
        except ConnectorError as error:
            raise refusal_of(error) from error

    async def _begin(self, call: Call, opened: Opened) -> str:
        """`new`; or `resumed` or `succeeded`, when it was begun before."""
        begin = Begin(
            call_id=call.id, connection_id=call.connection_id, connector=call.connector, operation=call.operation.name,
            effect=call.operation.effect, idempotency_key=call.key, arguments_digest=call.digest,
            fingerprint=opened.credential.fingerprint,
        )  # fmt: skip
        handled = await execute(self._store, CALL, call.id, begin, self._at_once(opened.context), new=True)
        if handled.recorded:
            return "new"
        return "succeeded" if handled.state.status == "succeeded" else "resumed"

    async def _attempt(self, call: Call, opened: Opened, command_id: str) -> Answer:
        began = time.monotonic()
        try:
            result = await self._sessions.run(opened, lambda port: self._ask(port, call))
        except ConnectorError as error:
            await self._failed(call, opened, error, command_id, _ms_since(began))
            raise refusal_of(error) from error
        except MaybeAppliedError as broken:
            return await self._after_break(call, opened, broken, command_id, began)
        return await self._succeeded(call, opened, result, command_id, _ms_since(began))

    async def _after_break(
        self, call: Call, opened: Opened, broken: MaybeAppliedError, command_id: str, began: float
    ) -> Answer:
        """Look whether it was applied: at once, and once more when the vendor has had the time to finish."""
        pauses = [0.0] if broken.answered else [0.0, self._connectors.settle_seconds(call.connector)]
        for pause in pauses:
            await asyncio.sleep(pause)
            found = await self._look_up(call, opened, command_id)
            if found is not None:
                return await self._succeeded(call, opened, found, command_id, _ms_since(began))
        error = ProviderDownError(f"{broken} It was not applied.")
        await self._sessions.note(opened, error)
        await self._failed(call, opened, error, command_id, _ms_since(began))
        raise refusal_of(error) from broken

    async def _look_up(self, call: Call, opened: Opened, command_id: str) -> CallResult | None:
        """What an earlier try left. While the vendor cannot be asked the call stays open: the next try looks again."""
        try:
            return await self._found(call, opened)
        except MaybeAppliedError as error:
            detail = str(error)
            uncertain = CallUncertain(
                call_id=call.id, connection_id=call.connection_id, operation=call.operation.name, detail=detail
            )
            await self._settle(call, opened, uncertain, command_id)
            raise CallUncertainError(detail) from error
        except ConnectorError as error:
            raise refusal_of(error) from error

    async def _repeat(self, call: Call, opened: Opened, earlier: Envelope | None) -> Answer:
        """It had its effect before: show what there is of it now, and do nothing."""
        try:
            found = await self._found(call, opened)
        except MaybeAppliedError:
            found = None
        except ConnectorError as error:
            raise refusal_of(error) from error
        return Answer(earlier, _answered(call, found, repeated=True))

    async def _found(self, call: Call, opened: Opened) -> CallResult | None:
        try:
            return await self._sessions.run(
                opened, lambda port: port.find(call.operation.name, call.arguments, call.key)
            )
        except ResourceNotFoundError:
            return None

    async def _ask(self, port: ConnectorPort, call: Call) -> CallResult:
        return await port.call(call.operation.name, call.arguments, call.key)

    async def _succeeded(
        self, call: Call, opened: Opened, result: CallResult, command_id: str, duration_ms: int, *,
        repeated: bool = False,
    ) -> Answer:  # fmt: skip
        answered = _answered(call, result, repeated=repeated)
        succeeded = CallSucceeded(
            call_id=call.id, connection_id=call.connection_id, operation=call.operation.name,
            resource_type=result.resource_type, resource_id=result.resource_id, count=result.count,
            status=result.status, duration_ms=duration_ms, bytes=result.bytes, digest=digest_of(bytes(answered.data)),
            repeated=repeated,
        )  # fmt: skip
        return Answer(await self._settle(call, opened, succeeded, command_id), answered)

    async def _failed(
        self, call: Call, opened: Opened, error: ConnectorError, command_id: str, duration_ms: int
    ) -> None:
        failed = CallFailed(
            call_id=call.id, connection_id=call.connection_id, operation=call.operation.name, reason=error.reason,
            detail=str(error), status=error.status, duration_ms=duration_ms,
        )  # fmt: skip
        await self._settle(call, opened, failed, command_id)

    async def _settle(
        self, call: Call, opened: Opened, outcome: CallSucceeded | CallFailed | CallUncertain, command_id: str
    ) -> Envelope | None:
        settled = await execute(
            self._store, CALL, call.id, Settle(outcome=outcome), self._at_once(opened.context), command_id=command_id
        )
        return settled.recorded[-1] if settled.recorded else None

    def _at_once(self, context: Context) -> Context:
        """Events about a call tell when it happened, not when it was asked for."""
        return msgspec.structs.replace(context, time=self._now())


def _answered(call: Call, result: CallResult | None, *, repeated: bool) -> OperationResult:
    data = msgspec.json.encode(result.data if result else None)
    return OperationResult(call_id=call.id, data=msgspec.Raw(data), repeated=repeated)


def _ms_since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
