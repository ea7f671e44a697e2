"""Passes TCP connections on: `python forward.py LISTEN TARGET PORT...` makes TARGET's ports those of LISTEN.

Only `deploy/story.py` uses it, for counterparts on this machine's loopback that a container is to find on its own.
"""

import asyncio
import contextlib
import sys
from functools import partial


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def serve(target: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        onward_reader, onward_writer = await asyncio.open_connection(target, port)
    except OSError:
        writer.close()
        return
    await asyncio.gather(pump(reader, onward_writer), pump(onward_reader, writer))


async def main(listen: str, target: str, *ports: str) -> None:
    servers = [await asyncio.start_server(partial(serve, target, int(port)), listen, int(port)) for port in ports]
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
