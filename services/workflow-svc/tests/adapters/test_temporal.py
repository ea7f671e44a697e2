"""Temporal passes the workflow port's suite, and says when it is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from bizosaas_events import new_id
from bizosaas_ports.testing.workflow import WorkflowSuite
from bizosaas_ports.workflow import Origin, Verdict, WorkflowUnavailableError
from bizosaas_sandbox.servers.temporal import Temporal as TemporalServer
from workflow_svc.adapters.temporal import Temporal, TemporalWorker, TemporalWorkflows, runtime
from workflow_svc.workflows.content_approval import ContentApproval


@workflow.defn(name="waiting")
class Waiting:
    """Remembers what it is given and told, until it is ended."""

    @workflow.init
    def __init__(self, input: dict[str, Any], origin: Origin) -> None:
        self._given = (input, origin)
        self._told: list[Verdict] = []
        self._ended = False

    @workflow.run
    async def run(self, input: dict[str, Any], origin: Origin) -> None:
        await workflow.wait_condition(lambda: self._ended)

    @workflow.signal
    def decide(self, verdict: Verdict) -> None:
        self._told.append(verdict)

    @workflow.signal
    def end(self) -> None:
        self._ended = True

    @workflow.query
    def given(self) -> tuple[dict[str, Any], Origin]:
        return self._given

    @workflow.query
    def told(self) -> list[Verdict]:
        return self._told


class TemporalEngine:
    """See `WorkflowEngine`."""

    def __init__(self, server: TemporalServer, client: Client, queue: str) -> None:
        self.port = TemporalWorkflows(client, queue)
        self.waiting = "waiting"
        self._server = server
        self._client = client

    def new_id(self) -> str:
        return new_id()

    async def starts(self, workflow_id: str) -> int:
        async with asyncio.timeout(20):
            while not (found := await self._list(workflow_id)):  # Temporal's list is a little behind
                await asyncio.sleep(0.1)
        await asyncio.sleep(0.3)
        return max(found, await self._list(workflow_id))

    async def _list(self, workflow_id: str) -> int:
        return len([run async for run in self._client.list_workflows(f'WorkflowId = "{workflow_id}"')])

    async def given(self, workflow_id: str) -> tuple[dict[str, Any], Origin]:
        return await self._client.get_workflow_handle(workflow_id).query(Waiting.given)

    async def told(self, workflow_id: str) -> list[Verdict]:
        return await self._client.get_workflow_handle(workflow_id).query(Waiting.told)

    async def end(self, workflow_id: str) -> None:
        handle = self._client.get_workflow_handle(workflow_id)
        await handle.signal(Waiting.end)
        await handle.result()

    async def stop(self) -> None:
        await asyncio.to_thread(self._server.kill)

    async def resume(self) -> None:
        await asyncio.to_thread(self._server.start)


def at(server: TemporalServer, queue: str = "suite") -> Temporal:
    return Temporal(server.url, namespace=server.namespace, task_queue=queue, identity="suite", runtime=runtime())


class TestTemporalWorkflows(WorkflowSuite):
    @pytest.fixture
    async def engine(self, private_temporal: TemporalServer) -> AsyncIterator[TemporalEngine]:
        client = await at(private_temporal).client(lazy=False)
        runner = UnsandboxedWorkflowRunner()
        async with Worker(client, task_queue="suite", workflows=[Waiting], workflow_runner=runner):
            yield TemporalEngine(private_temporal, client, "suite")


async def test_a_client_made_while_temporal_is_away_works_once_it_is_there(private_temporal: TemporalServer) -> None:
    private_temporal.stop()
    client = await at(private_temporal).client(lazy=True)
    workflows = TemporalWorkflows(client, "suite")
    origin = Origin(tenant="acme", actor="member:1", correlation_id="c", causation_id="c")

    with pytest.raises(WorkflowUnavailableError, match="Temporal is away"):
        await workflows.start("w1", "waiting", {}, origin)
    assert "Temporal is away" in await workflows.problem()

    await asyncio.to_thread(private_temporal.start)
    await workflows.start("w1", "waiting", {}, origin)
    assert await workflows.problem() == ""


async def test_a_namespace_that_is_missing_is_an_outage_and_loses_no_verdict(temporal_server: TemporalServer) -> None:
    elsewhere = Temporal(
        temporal_server.url, namespace="nowhere", task_queue="suite", identity="suite", runtime=runtime()
    )
    workflows = TemporalWorkflows(await elsewhere.client(lazy=True), "suite")
    with pytest.raises(WorkflowUnavailableError, match="nowhere"):
        await workflows.decide("w1", Verdict(approval_id="a", verdict="approved"))


async def test_a_workflow_that_cannot_be_one_stops_the_worker(temporal_server: TemporalServer) -> None:
    with pytest.raises(RuntimeError, match="Failed validating workflow"):
        await asyncio.wait_for(TemporalWorker(at(temporal_server), [Waiting], []).run(), 20)


async def test_a_worker_waits_for_temporal_and_says_so(private_temporal: TemporalServer) -> None:
    private_temporal.stop()
    worker = TemporalWorker(at(private_temporal), [ContentApproval], [])
    assert "not yet reached" in worker.problem()
    working = asyncio.create_task(worker.run())
    try:
        async with asyncio.timeout(30):
            while "cannot reach Temporal" not in worker.problem():  # there is nothing to wait on
                await asyncio.sleep(0.05)
            await asyncio.to_thread(private_temporal.start)
            while worker.problem():  # as above
                await asyncio.sleep(0.05)
    finally:
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
