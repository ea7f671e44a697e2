"""Out to the vendor and back, and what vendors send us by themselves."""

from bizosaas_events import Command
from bizosaas_events.messages.connector import CompleteAuthorization, ReceiveWebhook
from gateway.testing import CONNECTOR_KEY, World, connected

CALLBACK = "/v1/oauth/callback"


async def begin(world: World) -> str:
    ada = await world.admin()
    body = {"label": "Vendor", "scopes": ["openid"]}
    begun = await ada.post("/v1/oauth/authorize/openid", json=body, headers={"Prefer": "wait=5"})
    assert begun.status_code == 201
    assert begun.json()["url"].endswith(f"redirect_uri={str(world.settings.public_url).rstrip('/')}{CALLBACK}")
    id: str = begun.json()["connection_id"]
    return id


async def test_the_flow_is_begun_and_completed(world: World) -> None:
    id = await begin(world)

    back = await world.http.get(CALLBACK, params={"state": id, "code": "c0de", "iss": "https://vendor.test"})

    assert back.status_code == 200
    assert back.json()["connection_id"] == id
    ((envelope, command),) = world.services.commands(CompleteAuthorization)
    assert isinstance(command, CompleteAuthorization)
    assert CONNECTOR_KEY.open(command.sealed_code) == b"c0de"
    assert command.issuer == "https://vendor.test"
    assert envelope.actorrole == "anonymous"


async def test_a_replayed_or_unknown_state_is_refused(world: World) -> None:
    id = await begin(world)
    await world.http.get(CALLBACK, params={"state": id, "code": "c0de"})

    again = await world.http.get(CALLBACK, params={"state": id, "code": "c0de"})
    unknown = await world.http.get(CALLBACK, params={"state": "other", "code": "c0de"})
    missing = await world.http.get(CALLBACK, params={"code": "c0de"})

    assert (again.status_code, again.json()["type"]) == (409, "/problems/oauth-state-used")
    assert (unknown.status_code, unknown.json()["type"]) == (400, "/problems/oauth-state-unknown")
    assert (missing.status_code, missing.json()["field"]) == (400, "state")


async def test_people_get_a_page(world: World) -> None:
    id = await begin(world)
    browser = {"Accept": "text/html,application/xhtml+xml"}

    done = await world.http.get(CALLBACK, params={"state": id, "code": "c"}, headers=browser)
    refused = await world.http.get(CALLBACK, params={"state": "<script>", "code": "c"}, headers=browser)
    again = await world.http.get(CALLBACK, params={"state": id, "code": "c"}, headers=browser)

    assert done.headers["Content-Type"].startswith("text/html")
    assert "Connected" in done.text
    assert refused.status_code == 400
    assert "Not connected" in refused.text
    assert "<script>" not in refused.text
    assert "Not connected" not in again.text, "loading the page again does not say that it went wrong"
    assert "style-src 'sha256-" in done.headers["Content-Security-Policy"]


async def test_only_a_connection_that_exists_is_connected_again(world: World) -> None:
    ada = await world.admin()

    body = {"label": "Mine", "connection_id": "an-id-of-my-own"}
    refused = await ada.post("/v1/oauth/authorize/openid", json=body, headers={"Prefer": "wait=5"})

    assert refused.json()["type"] == "/problems/not-found"


async def test_a_webhook_is_handed_over_as_it_came(world: World) -> None:
    ada = await world.admin()
    made = await connected(ada)
    raw = b'{"broken'

    taken = await world.http.post(f"/v1/webhooks/{made['id']}", content=raw, headers={"X-Signature": "s"})
    unknown = await world.http.post("/v1/webhooks/nobodys", content=raw)

    assert taken.status_code == 404, "no connector here has webhooks"
    assert unknown.status_code == 404
    ((envelope, command),) = world.services.commands(ReceiveWebhook)
    assert envelope.tenantid == "acme-id", "it is handed over for the connection's own tenant"
    assert isinstance(command, ReceiveWebhook)
    assert command.body == raw
    assert command.headers["x-signature"] == "s"
    assert [c for c in world.services.commands(Command) if c[0].subject == "secret"] == []
