"""Temporal's development server as a child process."""

import asyncio
from datetime import timedelta

import pytest
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from bizosaas_sandbox.servers.temporal import Temporal


@workflow.defn
class Approval:
    """Waits for a person, as approvals do."""

    def __init__(self) -> None:
        self.answer: str | None = None

    @workflow.run
    async def run(self) -> str | None:
        await workflow.wait_condition(lambda: self.answer is not None, timeout=timedelta(minutes=5))
        return self.answer

    @workflow.signal
    def decide(self, answer: str) -> None:
        self.answer = answer


async def test_the_server_runs_a_workflow(temporal_server: Temporal) -> None:
    client = await Client.connect(temporal_server.url, namespace=temporal_server.namespace)
    async with Worker(client, task_queue="sandbox", workflows=[Approval], workflow_runner=UnsandboxedWorkflowRunner()):
        handle = await client.start_workflow(Approval.run, id="sandbox-approval", task_queue="sandbox")
        await handle.signal(Approval.decide, "yes")

        assert await asyncio.wait_for(handle.result(), 20) == "yes"


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_a_waiting_workflow_survives_a_stop_and_a_kill(private_temporal: Temporal, end: str) -> None:
    client = await Client.connect(private_temporal.url)
    handle = await client.start_workflow(Approval.run, id="waiting", task_queue="sandbox")

    getattr(private_temporal, end)()
    private_temporal.start()

    client = await Client.connect(private_temporal.url)
    handle = client.get_workflow_handle_for(Approval.run, "waiting")
    async with Worker(client, task_queue="sandbox", workflows=[Approval], workflow_runner=UnsandboxedWorkflowRunner()):
        await handle.signal(Approval.decide, "after all")

        assert await asyncio.wait_for(handle.result(), 20) == "after all"
