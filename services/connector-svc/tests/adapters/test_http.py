"""HTTP to vendors: what may be reached, how long, how much, and what is never carried over."""

import ipaddress
from collections.abc import AsyncIterator
from typing import Any

import pytest

from connector_svc.adapters.http import (
    AddressRefusedError,
    BrokenOffError,
    Http,
    NotSentError,
    RedirectedError,
    is_private_literal,
    is_public,
)
from connector_svc.testing.faults import FaultyProxy, answers, cuts, drips

PATIENCE: dict[str, Any] = {"seconds": 2.0, "connect_seconds": 1.0, "limit": 10_000}


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    client = Http(allow_private=True, user_agent="BizOSaaS/test")
    yield client
    await client.close()


@pytest.fixture
async def vendor() -> AsyncIterator[FaultyProxy]:
    async with FaultyProxy() as server:
        yield server


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "::1",
     "fe80::1%eth0", "fd00::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "224.0.0.1", "255.255.255.255",
     "64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "2002:7f00:1::", "::127.0.0.1", "::ffff:0:127.0.0.1", "fec0::1"],
)  # fmt: skip
def test_an_address_of_a_private_network_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "93.184.215.14"])
def test_an_address_of_the_internet_is(address: str) -> None:
    assert is_public(address)


def test_a_name_is_judged_when_it_is_connected_to() -> None:
    assert is_private_literal("10.0.0.1")
    assert is_private_literal("localhost")
    assert not is_private_literal("example.com")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0", "127.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]"])
async def test_private_addresses_are_refused_however_they_are_written(vendor: FaultyProxy, host: str) -> None:
    guarded = Http(allow_private=False, user_agent="x")
    port = vendor.url.rpartition(":")[2]

    with pytest.raises((AddressRefusedError, NotSentError)):
        await guarded.send("GET", f"http://{host}:{port}/", **PATIENCE)
    await guarded.close()

    assert vendor.requests == []


async def test_the_guard_is_what_connects(vendor: FaultyProxy) -> None:
    """Would notice an httpx that no longer uses the pool that is put in its place."""
    guarded = Http(allow_private=False, user_agent="x")

    with pytest.raises(AddressRefusedError):
        await guarded.send("GET", vendor.url, **PATIENCE)
    await guarded.close()


async def test_a_redirect_within_one_origin_is_followed_for_reads(http: Http, vendor: FaultyProxy) -> None:
    vendor.faults.extend([answers(301, Location="/there/"), answers(200, b'{"a":1}')])

    answer = await http.send("GET", f"{vendor.url}/there", **PATIENCE)

    assert (answer.status, answer.body) == (200, b'{"a":1}')


@pytest.mark.parametrize("location", ["http://elsewhere.test/x", "https://127.0.0.1/x", "//elsewhere.test/"])
async def test_a_redirect_elsewhere_is_not_followed(http: Http, vendor: FaultyProxy, location: str) -> None:
    vendor.faults.append(answers(302, Location=location))

    with pytest.raises(RedirectedError):
        await http.send("GET", vendor.url, **PATIENCE)


async def test_a_redirected_write_is_not_sent_again(http: Http, vendor: FaultyProxy) -> None:
    vendor.faults.append(answers(307, Location="/there"))

    with pytest.raises(RedirectedError):
        await http.send("POST", vendor.url, json={}, **PATIENCE)

    assert len(vendor.requests) == 1


async def test_redirects_come_to_an_end(http: Http, vendor: FaultyProxy) -> None:
    vendor.faults.extend([answers(302, Location="/again")] * 10)

    with pytest.raises(RedirectedError):
        await http.send("GET", vendor.url, **PATIENCE)


async def test_cookies_of_one_tenants_call_are_not_sent_with_anothers(http: Http, vendor: FaultyProxy) -> None:
    seen: list[bytes] = []

    async def look(proxy: FaultyProxy, request: bytes, writer: object) -> None:
        seen.append(request)
        await answers(200)(proxy, request, writer)  # type: ignore[arg-type]  # passed through

    vendor.faults.extend([answers(200, Set_Cookie="session=anns; Path=/"), look])
    await http.send("GET", vendor.url, **PATIENCE)
    await http.send("GET", vendor.url, **PATIENCE)

    assert b"cookie" not in seen[0].lower()
    assert b"BizOSaaS/test" in seen[0]


async def test_an_answer_that_is_too_long_is_not_read_to_its_end(http: Http, vendor: FaultyProxy) -> None:
    vendor.faults.append(answers(200, b"x" * 10_001))

    with pytest.raises(BrokenOffError, match="longer"):
        await http.send("GET", vendor.url, **PATIENCE)


async def test_an_answer_that_drips_ends_with_our_patience(http: Http, vendor: FaultyProxy) -> None:
    vendor.faults.append(drips(10))

    with pytest.raises(BrokenOffError, match="in time"):
        await http.send("GET", vendor.url, seconds=0.4, connect_seconds=1.0, limit=1_000_000)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", b"garbage\r\n\r\n"])
async def test_a_connection_that_breaks_is_told_apart_from_one_never_made(
    http: Http, vendor: FaultyProxy, answer: bytes
) -> None:
    vendor.faults.append(cuts(applied=False, answer=answer))

    with pytest.raises(BrokenOffError) as broken:
        await http.send("GET", vendor.url, **PATIENCE)

    assert broken.value.cut


async def test_a_server_that_is_not_there_was_never_asked(http: Http, vendor: FaultyProxy) -> None:
    url = vendor.url
    await vendor.__aexit__(None, None, None)

    with pytest.raises(NotSentError):
        await http.send("GET", url, **PATIENCE)
    with pytest.raises(NotSentError):
        await http.send("GET", "http://nowhere.invalid/", **PATIENCE)
    assert not ipaddress.ip_address("127.0.0.1").is_global
