"""AgentPort on CrewAI, with everything switched off that it would do on the side.

CrewAI is imported once, off the event loop (3 s, 240 MB), into an environment
that is set here first: its switches are read on import. It would otherwise
send telemetry, take over signals, ask for a newer version, write files and a
key below the home folder, and take its locks at `REDIS_URL`.
"""

import asyncio
import importlib
import os
import tempfile
import warnings
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import structlog

from bizosaas_ports.agent import AgentDefinition, AgentFailedError, AgentOutcome, UseTool
from bizosaas_ports.model import ModelPort

from .briefing import Answers, opening

SWITCHES = {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_TRACKING": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "CREWAI_DISABLE_VERSION_CHECK": "true",
    "CREWAI_TESTING": "false",
}
"""Never OTEL_SDK_DISABLED, which would silence our own traces too."""

FOLDERS = ("HOME", "CREWAI_STORAGE_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")

_log = structlog.get_logger(__name__)


class CrewAgents:
    """See `AgentPort`. Every run has fresh objects; its tools and its model are awaited on the event loop."""

    def __init__(self, parts: ModuleType) -> None:
        self._parts = parts

    async def run(
        self, definition: AgentDefinition, brief: dict[str, Any], use_tool: UseTool, model: ModelPort
    ) -> AgentOutcome:
        answers = Answers(definition, model)
        bridge = self._parts.Bridge(asyncio.get_running_loop())
        llm = self._parts.bridged_llm(bridge, definition, answers, opening(definition, brief))
        agent = self._parts.agent_of(definition, llm, self._parts.gate_tool(bridge, answers, use_tool))
        self._parts.quiet()
        try:
            delivered = await agent.akickoff(definition.goal)
        except self._parts.InterruptedRun as interrupted:
            raise interrupted.reason from interrupted
        except Exception as error:
            # Whatever CrewAI raises by itself, such as after five equal calls with equal results.
            _log.warning("CrewAI gave up", agent=definition.id, error=type(error).__name__)
            raise AgentFailedError("engine", f"CrewAI gave up: {type(error).__name__}") from error
        finally:
            bridge.close()
        return await answers.outcome(llm.messages, delivered.raw)


@asynccontextmanager
async def crew_agents(threads: int) -> AsyncIterator[CrewAgents]:
    """CrewAI, imported, with a home of its own that is removed afterwards.

    Its blocking parts run in the loop's default executor, which is replaced
    by a larger one: with the default of a few threads, 50 runs at once took
    four times as long.
    """
    executor = ThreadPoolExecutor(threads, thread_name_prefix="crew")
    asyncio.get_running_loop().set_default_executor(executor)
    with tempfile.TemporaryDirectory(prefix="bizos-crew-", ignore_cleanup_errors=True) as home:
        yield CrewAgents(await asyncio.to_thread(_import, home))


def _import(home: str) -> ModuleType:
    os.environ.update(SWITCHES)
    os.environ.update(dict.fromkeys(FOLDERS, home))
    os.environ.pop("REDIS_URL", None)
    with warnings.catch_warnings():
        # Its dependencies deprecate things among themselves.
        warnings.simplefilter("ignore")
        return importlib.import_module("agent_svc.adapters._crewai")
