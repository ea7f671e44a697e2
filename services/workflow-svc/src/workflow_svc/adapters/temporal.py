"""Temporal: workflows started and told over its client, and the worker that runs them.

Temporal may be away at the start and at any time later. The client connects at
its first call and again by itself; the worker tries until it is connected.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import structlog
from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.client import Client
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.runtime import LogForwardingConfig, LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from bizosaas_ports.workflow import Origin, Verdict, WorkflowUnavailableError

from .payloads import DATA_CONVERTER

CALL_SECONDS = 10.0
HEALTH_SECONDS = 1.5
LONGEST_PAUSE = 5.0
DRAIN = timedelta(seconds=10)
HANDED_OVER = timedelta(seconds=3)
"""A workflow whose worker has been killed goes on at another after so long; Temporal's default is 10 s."""
# Checked once to be free of effects, so that not every workflow gets a copy of its own; a workflow's own file is
# loaded anew and held to Temporal's rules.
PASSED_THROUGH = ("msgspec", "bizosaas_ports", "workflow_svc.workflows._steps", "workflow_svc.workflows._definition")

T = TypeVar("T")

_log = structlog.get_logger(__name__)


def runtime() -> Runtime:
    """Temporal's machinery for one process; its errors go where our logs go. Our own logs tell of outages."""
    forwarding = LogForwardingConfig(logger=logging.getLogger("temporal"), append_target_to_name=False)
    errors = TelemetryFilter(core_level="ERROR", other_level="ERROR")
    return Runtime(telemetry=TelemetryConfig(logging=LoggingConfig(filter=errors, forwarding=forwarding)))


class Temporal:
    """Where Temporal is: one namespace of one server, and the task queue of one deployment."""

    def __init__(self, address: str, *, namespace: str, task_queue: str, identity: str, runtime: Runtime) -> None:
        self.address = address
        self.namespace = namespace
        self.task_queue = task_queue
        self.identity = identity
        self._runtime = runtime

    async def client(self, *, lazy: bool) -> Client:
        """A client: a lazy one connects at its first call. Raises RuntimeError when it cannot connect."""
        return await Client.connect(
            self.address, namespace=self.namespace, data_converter=DATA_CONVERTER, identity=self.identity,
            runtime=self._runtime, lazy=lazy,
        )  # fmt: skip


class TemporalWorkflows:
    """See `WorkflowPort`. `client` may be lazy."""

    def __init__(self, client: Client, task_queue: str) -> None:
        self._client = client
        self._task_queue = task_queue

    async def start(self, workflow_id: str, name: str, input: dict[str, Any], origin: Origin) -> None:
        try:
            await self._reach(
                self._client.start_workflow(
                    name, args=[input, origin], id=workflow_id, task_queue=self._task_queue,
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                )
            )  # fmt: skip
        except WorkflowAlreadyStartedError:
            return

    async def decide(self, workflow_id: str, verdict: Verdict) -> None:
        await self._reach(self._client.get_workflow_handle(workflow_id).signal("decide", verdict), gone=True)

    async def problem(self) -> str:
        """For readiness: what is wrong with Temporal; empty: nothing."""
        try:
            serving = await self._client.service_client.check_health(timeout=timedelta(seconds=HEALTH_SECONDS))
        except (RPCError, RuntimeError) as error:
            return f"Temporal is away: {_said(error)}"
        return "" if serving else "Temporal is not serving"

    async def _reach(self, call: Awaitable[object], *, gone: bool = False) -> None:
        """Await one call, and say WorkflowUnavailableError unless it was done; `gone`: a workflow that is not, is fine."""
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await call
        except TimeoutError as error:
            raise WorkflowUnavailableError(f"Temporal has not answered within {CALL_SECONDS:g} s") from error
        except RPCError as error:
            if gone and error.status is RPCStatusCode.NOT_FOUND and not _no_namespace(error):
                return
            raise WorkflowUnavailableError(f"Temporal: {_said(error)}") from error
        except RuntimeError as error:  # what a lazy client raises that cannot connect
            raise WorkflowUnavailableError(f"Temporal is away: {_said(error)}") from error


class TemporalWorker:
    """Runs workflows and activities until cancelled, whatever Temporal goes through."""

    def __init__(self, temporal: Temporal, workflows: Sequence[type], activities: Sequence[Callable[..., Any]]) -> None:
        self._temporal = temporal
        self._workflows = workflows
        self._activities = activities
        self._problem = "the worker has not yet reached Temporal"

    def problem(self) -> str:
        """For readiness: why no workflow is being worked on; empty: they are."""
        return self._problem

    async def run(self) -> None:
        """Raises RuntimeError for a workflow that cannot be one, which no waiting would cure."""
        pause = 0.2
        while True:
            try:
                client = await self._temporal.client(lazy=False)
            except (RPCError, RuntimeError) as error:
                pause = await self._wait(error, pause)
                continue
            worker = Worker(
                client, task_queue=self._temporal.task_queue, workflows=self._workflows,
                activities=self._activities, workflow_runner=sandbox(), graceful_shutdown_timeout=DRAIN,
                sticky_queue_schedule_to_start_timeout=HANDED_OVER,
            )  # fmt: skip
            try:
                async with worker:
                    self._problem, pause = "", 0.2
                    _log.info("works for Temporal", address=self._temporal.address, queue=self._temporal.task_queue)
                    await asyncio.Event().wait()
            except (RPCError, RuntimeError) as error:
                pause = await self._wait(error, pause)

    async def _wait(self, error: Exception, pause: float) -> float:
        """Wait, and say how long to wait the next time."""
        self._problem = f"the worker cannot reach Temporal: {_said(error)}"
        _log.warning("waiting for Temporal", address=self._temporal.address, error=_said(error))
        await asyncio.sleep(pause)
        return min(pause * 2, LONGEST_PAUSE)


def sandbox() -> SandboxedWorkflowRunner:
    """Temporal's sandbox for workflow code, which turns a clock, a random number or I/O in it into an error."""
    return SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default.with_passthrough_modules(*PASSED_THROUGH))


def _no_namespace(error: RPCError) -> bool:
    return any(detail.Is(NamespaceNotFoundFailure.DESCRIPTOR) for detail in error.grpc_status.details)


def _said(error: Exception) -> str:
    """The first sentence of Temporal's own, long description."""
    return str(error).split(": tonic::")[0].split("\n")[0][:200]
