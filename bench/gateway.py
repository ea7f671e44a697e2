"""How many commands a second the gateway accepts, beside a bare route that awaits one XADD.

    (a) a bare Litestar route on granian that awaits one XADD
    (b) the gateway's own route for calls: session in Redis, permission, validation, envelope, access log
    (c) FastAPI on uvicorn, bare as (a)

Each is one process; all get the same requests from one client process, one after another in rounds, against one
Redis with its append-only file on. Ratios compare within a round and are medians over the rounds.

    python bench/gateway.py [--rounds 9] [--seconds 1.5] [--connections 32]
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import psutil

# This file is called like the package it measures, and its folder comes first on the path.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

BODY = b'{"operation":"cms.list_content","arguments":{"limit":10,"status":"draft","search":"autumn soups"}}'
WARM_UP_SECONDS = 0.7
TENANT = "bench-tenant"


# ---- the servers, each run by a child process of this file -------------------------------------------------------


def serve_bare_litestar(port: int, redis_url: str) -> None:
    import uvloop
    from granian.constants import Interfaces
    from granian.server.embed import Server
    from litestar import Litestar, Request, Response, post
    from redis.asyncio import Redis

    redis: Redis = Redis.from_url(redis_url)

    @post("/calls", status_code=202)
    async def bare(request: Request[Any, Any, Any]) -> Response[dict[str, str]]:
        id = cast(bytes, await redis.xadd("bench:litestar", {"data": await request.body()}))
        return Response({"id": id.decode()}, status_code=202)

    app = Litestar([bare], openapi_config=None)
    server = Server(app, port=port, interface=Interfaces.ASGINL, websockets=False, log_enabled=False)
    uvloop.run(server.serve())


def serve_bare_fastapi(port: int, redis_url: str) -> None:
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel
    from redis.asyncio import Redis

    redis: Redis = Redis.from_url(redis_url)
    app = FastAPI()

    class Call(BaseModel):
        operation: str
        arguments: dict[str, Any]

    @app.post("/calls", status_code=202)
    async def bare(call: Call) -> dict[str, str]:
        id = cast(bytes, await redis.xadd("bench:fastapi", {"data": call.model_dump_json()}))
        return {"id": id.decode()}

    uvicorn.run(app, port=port, log_level="warning", access_log=False)


def serve_gateway(port: int, redis_url: str) -> None:
    from gateway.app.server import run

    del port, redis_url  # told by the environment
    run()


SERVERS = {"litestar": serve_bare_litestar, "gateway": serve_gateway, "fastapi": serve_bare_fastapi}


# ---- the client, a process of its own so that it does not share an interpreter with the bench --------------------


def client(port: int, path: str, token: str, connections: int, seconds: float) -> None:
    """Print how many requests were accepted, in how many seconds, and how many were not accepted."""
    import uvloop

    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {token}\r\nContent-Length: {len(BODY)}\r\n\r\n"
    )
    request = head.encode() + BODY
    accepted = refused = 0
    stopped = False

    class Connection(asyncio.Protocol):
        """Sends the next request when an answer is whole."""

        def __init__(self) -> None:
            self.data = b""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.Transport, transport)
            self.transport.write(request)

        def data_received(self, data: bytes) -> None:
            nonlocal accepted, refused
            self.data += data
            end = self.data.find(b"\r\n\r\n")
            if end < 0:
                return
            start = self.data[:end].lower()
            length = int(start.partition(b"content-length: ")[2].partition(b"\r")[0])
            if len(self.data) < end + 4 + length:
                return
            if start[9:12] == b"202":
                accepted += 1
            else:
                refused += 1
            self.data = b""
            if not stopped:
                self.transport.write(request)

    async def run() -> None:
        nonlocal accepted, stopped
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            await loop.create_connection(Connection, "127.0.0.1", port)
        await asyncio.sleep(WARM_UP_SECONDS)
        before, began = accepted, time.perf_counter()
        await asyncio.sleep(seconds)
        number, took = accepted - before, time.perf_counter() - began
        stopped = True
        print(json.dumps([number, took, accepted, refused]))

    uvloop.run(run())


# ---- the bench ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def child(server: str, port: int, redis_url: str, settings: dict[str, str]) -> Iterator[psutil.Process]:
    """One of the servers, until the block ends."""
    command = [sys.executable, __file__, "serve", server, str(port), redis_url]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env={**os.environ, **settings}, stderr=log)
        try:
            _until_it_answers(port, process, log)
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(20)


def _until_it_answers(port: int, process: "subprocess.Popen[bytes]", log: IO[bytes]) -> None:
    import httpx

    for _ in range(600):
        if process.poll() is not None:
            log.seek(0)
            raise SystemExit(f"a server ended before it was ready: {log.read()[-2000:].decode()}")
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code != 503:
                return
        time.sleep(0.05)
    raise SystemExit("a server did not get ready")


class Measured(NamedTuple):
    rate: float
    """Accepted commands a second."""
    cpu: float
    """Microseconds of processor time that the server took for each."""


def measure(server: psutil.Process, port: int, path: str, token: str, options: argparse.Namespace) -> Measured:
    command = [
        sys.executable, __file__, "client", str(port), path, token, str(options.connections), str(options.seconds)
    ]  # fmt: skip
    before = server.cpu_times()
    answered = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    after = server.cpu_times()
    number, took, total, refused = answered
    if refused:
        raise SystemExit(f"{refused} requests to {path} were not accepted")
    cpu = after.user + after.system - before.user - before.system
    return Measured(number / took, 1e6 * cpu / total)


async def a_session(redis_url: str, env: str) -> str:
    """The token of a tenant admin who is signed in."""
    from redis.asyncio import Redis

    from gateway.adapters.sessions import RedisSessions

    redis: Redis = Redis.from_url(redis_url)
    sessions = RedisSessions(redis, env=env, idle_seconds=3600, longest_seconds=3600)
    token, _ = await sessions.open(member_id="m", tenant_id=TENANT, email="a@b.test", name="A", role="tenant_admin")
    await redis.aclose()
    return token


async def sample_of(redis_url: str, env: str) -> tuple[int, list[str]]:
    """How many commands the gateway has handed over, and the fields of the last one."""
    from redis.asyncio import Redis

    from bizosaas_events.bus import Names

    redis: Redis = Redis.from_url(redis_url)
    stream = Names(env).commands("connector")
    length = await redis.xlen(stream)
    last = cast("list[tuple[bytes, dict[bytes, bytes]]]", await redis.xrevrange(stream, count=1))
    await redis.aclose()
    return length, [name.decode() for name in last[0][1]]


def main(options: argparse.Namespace) -> None:
    from bizosaas_ports.sealing import SealingKey, export_public
    from bizosaas_sandbox.servers.children import free_port
    from bizosaas_sandbox.servers.postgres import THROW_AWAY, Postgres
    from bizosaas_sandbox.servers.redis import Redis as RedisServer

    folder = Path(tempfile.mkdtemp(prefix="bizos-bench-"))
    folder.chmod(0o711)
    public = export_public(SealingKey.generate().public)
    ports = {name: free_port() for name in SERVERS}
    with contextlib.ExitStack() as stack:
        redis = RedisServer(folder / "redis")
        postgres = Postgres(folder / "postgres", settings=THROW_AWAY)
        for server in (redis, postgres):
            server.start()
            stack.callback(server.stop)
        settings = {
            "BIZOS_ENV": "bench", "BIZOS_REDIS_URL": redis.url, "BIZOS_HTTP_PORT": str(ports["gateway"]),
            "BIZOS_DATABASE_URL": postgres.create_database("gateway", "gateway", "gateway"),
            "BIZOS_PUBLIC_URL": f"http://127.0.0.1:{ports['gateway']}", "BIZOS_LOG_LEVEL": "INFO",
            **{f"BIZOS_{name}_SVC_PUBLIC_KEY": public for name in ("TENANT", "CONNECTOR", "SECRET")},
        }  # fmt: skip
        servers = {name: stack.enter_context(child(name, port, redis.url, settings)) for name, port in ports.items()}
        token = asyncio.run(a_session(redis.url, "bench"))
        paths = {"litestar": "/calls", "gateway": "/v1/connections/c1/calls", "fastapi": "/calls"}
        rounds = [
            {name: measure(servers[name], ports[name], paths[name], token, options) for name in SERVERS}
            for _ in range(options.rounds)
        ]
        length, fields = asyncio.run(sample_of(redis.url, "bench"))
    table(rounds, length, fields, options)


def table(rounds: list[dict[str, Measured]], length: int, fields: list[str], options: argparse.Namespace) -> None:
    """Print what was measured."""
    names = {
        "litestar": "(a) bare Litestar route, one awaited XADD, granian",
        "gateway": "(b) the gateway: session, permission, validation, access log",
        "fastapi": "(c) FastAPI, bare as (a), uvicorn",
    }
    print(f"accepted commands/s: {len(rounds)} rounds of {options.seconds:g} s, {options.connections} connections")
    print(f"{'':62} {'median':>8} {'of (a)':>7} {'CPU µs':>7}  by round, of (a)")
    for name, text in names.items():
        ratios = [found[name].rate / found["litestar"].rate for found in rounds]
        rate = statistics.median(found[name].rate for found in rounds)
        cpu = statistics.median(found[name].cpu for found in rounds)
        by_round = " ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"{text:62} {rate:8,.0f} {statistics.median(ratios):7.2f} {cpu:7.0f}  {by_round}")
    print(f"(b) handed over {length:,} commands of {len(fields)} fields each, and remembered who sent each of them")


def options_of(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--connections", type=int, default=32)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", name, port, url]:
            SERVERS[name](int(port), url)
        case ["client", port, path, token, connections, seconds]:
            client(int(port), path, token, int(connections), float(seconds))
        case arguments:
            main(options_of(arguments))
