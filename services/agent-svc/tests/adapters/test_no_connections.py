"""A run under CrewAI opens no connection and writes nowhere but into its own home: seen by an audit hook."""

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import asyncio, json, os, sys

seen = {"network": [], "written": []}

def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"):
        seen["network"].append([event, str(arguments[1:])])
    elif event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        seen["written"].append(str(arguments[0]))
    elif event == "sqlite3.connect":
        seen["written"].append(str(arguments[0]))

sys.addaudithook(watch)

from agent_svc.adapters.crew import crew_agents
from agent_svc.testing import MemoryAgentService, a_start

async def main():
    async with crew_agents(8) as crew:
        service = MemoryAgentService(agents=crew)
        replies = [await service.ask(a_start(run_id=f"r{n}")) for n in range(3)]
        seen["problems"] = [str(reply.problem) for reply in replies if reply.problem]
        seen["home"] = os.environ["HOME"]
    await asyncio.sleep(1)

asyncio.run(main())
print(json.dumps(seen))
"""


def test_three_runs_open_no_connection_and_write_only_into_their_own_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "REDIS_URL": "redis://127.0.0.1:1/0"}

    done = subprocess.run(
        [sys.executable, "-B", "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=120, check=True
    )

    seen = json.loads(done.stdout)
    assert seen["problems"] == []
    assert seen["network"] == []
    assert [path for path in seen["written"] if not path.startswith((seen["home"], "/dev/null"))] == []
    assert list(home.iterdir()) == []
