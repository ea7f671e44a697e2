"""HTTP to vendors: one client per process, bounded in time and size, without cookies, and guarded against our own network.

Tenants share the client, so nothing of one request may show in another:
cookies are neither kept nor sent. Redirects are followed for reads within
one origin only: elsewhere they would carry a credential to a stranger.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, NamedTuple

import httpcore
import httpx
from opentelemetry import trace
from opentelemetry.trace import SpanKind

REDIRECTS = 3
KEEPALIVE_SECONDS = 2.0
"""Below what servers commonly allow (Node: 5 s), so that we rarely write into a connection that is being closed."""

INTERNET = ipaddress.IPv6Network("2000::/3")
"""All of IPv6 that is given out. What is outside of it, or tunnels to an IPv4 address, may lead anywhere."""
TUNNELS = ipaddress.IPv6Network("2002::/16")

_tracer = trace.get_tracer("bizosaas")


class NotSentError(Exception):
    """The request never reached the vendor."""


class BrokenOffError(Exception):
    """The request was sent, and its answer did not come, or not to its end. `cut`: the connection broke meanwhile."""

    def __init__(self, message: str, *, cut: bool = False) -> None:
        super().__init__(message)
        self.cut = cut


class AddressRefusedError(Exception):
    """The address belongs to a private network, which connections may not reach."""


class RedirectedError(Exception):
    """The vendor sends us elsewhere."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.location = location


class Answer(NamedTuple):
    """One answer, read to its end."""

    status: int
    headers: httpx.Headers
    body: bytes


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to addresses that may be reached, and to nothing else.

    The address that was checked is the one connected to: a name that resolves
    anew between check and use (DNS rebinding) gains nothing.
    """

    def __init__(self, *, allow_private: bool) -> None:
        self._inner = httpcore.AnyIOBackend()
        self._allow_private = allow_private

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:  # fmt: skip
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # a label that is too long, or empty, is a UnicodeError
            raise httpcore.ConnectError(f"{host} is not known") from error
        addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
        allowed = [address for address in addresses if self._allow_private or is_public(address)]
        if not allowed:
            raise AddressRefusedError(f"{host} is an address of a private network")
        problem: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
        for address in allowed:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                problem = error
        raise problem or httpcore.ConnectError(f"{host} has no address")

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise httpcore.ConnectError("no unix sockets")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


def is_public(address: str) -> bool:
    """Whether an IP address is of the public internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is None:
            return ip.is_global and ip in INTERNET and ip not in TUNNELS
        ip = ip.ipv4_mapped
    return ip.is_global and not ip.is_multicast


def is_host(url: str) -> bool:
    """Whether a URL names a host that could exist: its labels can be written in DNS."""
    try:
        httpx.URL(url).raw_host.decode().encode("idna")
    except (httpx.InvalidURL, UnicodeError):
        return False
    return True


def is_private_literal(host: str) -> bool:
    """Whether a host is written as an address of a private network; names are checked when they are connected to."""
    try:
        return not is_public(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class GuardedTransport(httpx.AsyncHTTPTransport):
    """httpx's own transport over a pool that connects through the guard."""

    def __init__(self, *, allow_private: bool) -> None:
        super().__init__()
        # httpx has no parameter for the network backend; a test says when this attribute is no longer the pool.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(trust_env=False), max_connections=None,
            max_keepalive_connections=50, keepalive_expiry=KEEPALIVE_SECONDS,
            network_backend=GuardedBackend(allow_private=allow_private),
        )  # fmt: skip


class Http:
    """The process's one client for vendors. Close it."""

    def __init__(self, *, allow_private: bool, user_agent: str) -> None:
        self._client = httpx.AsyncClient(
            transport=GuardedTransport(allow_private=allow_private), headers={"User-Agent": user_agent},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])), trust_env=False, follow_redirects=False,
        )  # fmt: skip

    async def close(self) -> None:
        await self._client.aclose()

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None,
        params: Mapping[str, str | int] | None = None, json: Any = None, form: Mapping[str, str] | None = None,
        seconds: float, connect_seconds: float, limit: int,
    ) -> Answer:  # fmt: skip
        """One request and its whole answer.

        Raises NotSentError, BrokenOffError (also when the answer is longer
        than `limit` bytes or takes longer than `seconds`), AddressRefusedError
        and RedirectedError.
        """
        timeout = httpx.Timeout(seconds, connect=connect_seconds)
        content: dict[str, Any] = {"json": json} if json is not None else {"data": form} if form is not None else {}
        request = self._client.build_request(
            method, url, headers=dict(headers or {}), params=dict(params) if params else None, timeout=timeout,
            **content,
        )  # fmt: skip
        with _tracer.start_as_current_span(f"{method} {request.url.host}", kind=SpanKind.CLIENT) as span:
            try:
                async with asyncio.timeout(seconds):
                    answer = await self._follow(request, limit)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol) as error:
                raise NotSentError(_in_words(error)) from error
            except (httpx.TransportError, httpx.DecodingError, TimeoutError) as error:
                cut = isinstance(error, httpx.NetworkError | httpx.ProtocolError)
                raise BrokenOffError(_in_words(error), cut=cut) from error
            span.set_attribute("http.response.status_code", answer.status)
            return answer

    async def _follow(self, request: httpx.Request, limit: int) -> Answer:
        for _ in range(REDIRECTS + 1):
            response = await self._client.send(request, stream=True)
            try:
                following = response.next_request
                if following is None:
                    return Answer(response.status_code, response.headers, await _read(response, limit))
                same_origin = following.url.copy_with(raw_path=b"/") == request.url.copy_with(raw_path=b"/")
                if request.method not in ("GET", "HEAD") or not same_origin:
                    raise RedirectedError(f"{following.url.scheme}://{following.url.netloc.decode()}")
                request = following
            finally:
                await response.aclose()
        raise RedirectedError("itself, again and again")


async def _read(response: httpx.Response, limit: int) -> bytes:
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > limit:
            raise BrokenOffError(f"the answer is longer than {limit} bytes")
        parts.append(part)
    return b"".join(parts)


def _in_words(error: Exception) -> str:
    match error:
        case httpx.ConnectTimeout() | httpx.ConnectError():
            return "no connection could be made"
        case httpx.TimeoutException() | TimeoutError():
            return "no answer in time"
        case _:
            return "the connection broke"
