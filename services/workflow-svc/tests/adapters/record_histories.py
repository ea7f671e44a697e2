"""Record a history of each path through each workflow: `python record_histories.py <host:port of a Temporal>`.

Adds what is missing and leaves what is there: an old history stands for runs that are still waiting somewhere.
"""

import asyncio
import sys
from pathlib import Path
from typing import Literal, get_args

from bizosaas_events import new_id
from workflow_svc.testing import SHORTLY, OnTemporal, a_start, on_temporal

FOLDER = Path(__file__).parent / "histories"


Ends = Literal["approved", "rejected", "expired"]


async def content_approval(bench: OnTemporal, ends: Ends) -> str:
    id = new_id()
    await bench.service.ask(a_start(id, deadline_hours=SHORTLY if ends == "expired" else 72))
    asked = await bench.asked(id)
    if ends != "expired":
        await bench.decide(asked, ends)
    await bench.finished(id)
    return id


async def record(address: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    async with on_temporal(address, "default", f"record-{new_id()}") as bench:
        for ends in get_args(Ends):
            file = FOLDER / f"content_approval-{ends}.json"
            if file.exists():
                continue
            handle = bench.client.get_workflow_handle(await content_approval(bench, ends))
            await handle.result()
            file.write_text((await handle.fetch_history()).to_json() + "\n")
            print(f"recorded {file.name}")


if __name__ == "__main__":
    asyncio.run(record(sys.argv[1]))
