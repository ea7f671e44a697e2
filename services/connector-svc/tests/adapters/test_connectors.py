"""What every connector owes, whichever there are: a new one is picked up from its folder, with no test file of its own."""

import inspect
from types import ModuleType
from typing import get_type_hints

import msgspec
import pytest

from bizosaas_ports.capabilities import operations
from bizosaas_ports.connector import Account, ConnectorError, RateLimitedError
from bizosaas_runtime.discovery import PluginError, discover
from connector_svc.adapters import connectors as package
from connector_svc.adapters.connectors._api import Api
from connector_svc.adapters.connectors._declaration import Action, Basic, Connector, OAuth2
from connector_svc.adapters.http import Http
from connector_svc.testing.faults import FaultyProxy, answers

CONNECTORS = discover(package, Connector, key="key")


@pytest.fixture(params=sorted(CONNECTORS))
def connector(request: pytest.FixtureRequest) -> Connector:
    return CONNECTORS[request.param]


def test_the_file_is_named_after_the_connector(connector: Connector) -> None:
    module = inspect.getmodule(connector.check)
    assert module is not None
    assert module.__name__.rpartition(".")[2] == connector.key.replace("-", "_")
    assert module.__doc__


def test_it_offers_something(connector: Connector) -> None:
    assert connector.name
    assert connector.actions


def test_it_covers_each_port_it_begins_with(connector: Connector) -> None:
    ports = {name.split(".")[0] for name in connector.actions}
    assert set(connector.actions) == {name for name in operations() if name.split(".")[0] in ports}


def test_its_functions_take_the_ports_requests(connector: Connector) -> None:
    for name, action in connector.actions.items():
        for function in filter(None, (action.run, action.find)):
            hints = get_type_hints(function)
            parameters = list(inspect.signature(function).parameters)
            assert hints[parameters[0]] is Api, (name, function)
            assert hints[parameters[1]] is operations()[name].request, (name, function)


def test_its_check_call_answers_an_account(connector: Connector) -> None:
    assert get_type_hints(connector.check)["return"] is Account


def test_a_repeat_of_every_effect_is_kept_harmless_or_said_to_be_uncertain(connector: Connector) -> None:
    for name, action in connector.actions.items():
        kind = connector.idempotency(name)
        if operations()[name].effect == "read":
            assert (kind, action.find) == ("safe", None)
        else:
            assert kind == "lookup" if action.find else kind in ("key", "none")


def test_what_a_person_fills_in_is_labelled(connector: Connector) -> None:
    fields = [*connector.settings, *connector.auth.fields]
    assert len({field.name for field in fields}) == len(fields)
    assert all(field.label for field in fields)
    assert all(field.example for field in fields if field.kind == "url")
    if isinstance(connector.auth, Basic):
        assert connector.auth.password.kind == "secret"


def test_its_authorization_is_stated_whole(connector: Connector) -> None:
    if not isinstance(connector.auth, OAuth2):
        return
    auth = connector.auth
    assert auth.scopes
    assert set(auth.required_scopes) <= set(auth.scopes)
    assert auth.discover or (auth.authorize_url.startswith("https://") and auth.token_url.startswith("https://"))
    assert auth.pkce or auth.client_auth != "none", "a public client needs PKCE"


def test_its_errors_are_mapped_to_typed_ones(connector: Connector) -> None:
    assert connector.errors.rules
    assert any(issubclass(rule.error, RateLimitedError) for rule in connector.errors.rules)
    for rule in connector.errors.rules:
        assert issubclass(rule.error, ConnectorError)
        assert rule.says.endswith(".")
        assert rule.status or rule.code


@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, {"revoked", "expired"}), (403, {"scope-missing"}), (429, {"rate-limited"}), (500, {"provider-down"}),
     (503, {"provider-down"}), (400, {"refused"}), (409, {"refused"}), (422, {"refused"})],
)  # fmt: skip
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b'{"code":7}', b'"text"', b'{"error":{"x":1}}'])
async def test_any_error_with_any_body_is_a_typed_one(
    connector: Connector, status: int, reason: set[str], body: bytes
) -> None:
    http = Http(allow_private=True, user_agent="test")
    async with FaultyProxy() as vendor:
        vendor.faults.append(answers(status, body))
        api = Api(connector, http, base_url=vendor.url, authorization="x", has_effect=False, metadata={})
        with pytest.raises(ConnectorError) as refused:
            await api.get("/anything", into=dict[str, object])
    await http.close()

    assert refused.value.reason in reason
    if "rate-limited" in reason:
        assert refused.value.retry_after == connector.limits.retry_after


async def test_an_answer_in_another_shape_is_the_vendors_fault(connector: Connector) -> None:
    class Shape(msgspec.Struct):
        wanted: int

    http = Http(allow_private=True, user_agent="test")
    async with FaultyProxy() as vendor:
        for body in (b"<html>maintenance</html>", b'{"wanted":"x"}', b"", b"\xff\xfe"):
            vendor.faults.append(answers(200, body))
            api = Api(connector, http, base_url=vendor.url, authorization="x", has_effect=False, metadata={})
            with pytest.raises(ConnectorError) as refused:
                await api.get("/anything", into=Shape)
            assert refused.value.reason == "provider-down"
    await http.close()


async def nothing(api: Api, request: object, key: str) -> object:
    raise AssertionError


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"key": "Word Press"}, "cannot be a connector's key"),
        ({"actions": {"cms.explode": Action(nothing)}}, "no port has"),  # type: ignore[arg-type]  # never run
        ({"base_url": "https://{shop}.test"}, "no setting of it"),
    ],
)
def test_a_declaration_that_cannot_work_stops_the_start_and_says_why(change: dict[str, object], says: str) -> None:
    model = CONNECTORS["wordpress"]
    whole = {name: getattr(model, name) for name in ("key", "name", "auth", "base_url", "check", "actions", "settings")}

    with pytest.raises(ValueError, match=says):
        Connector(**whole | change)


def test_a_file_without_a_connector_stops_the_start(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "half_done"  # type: ignore[operator]  # a Path
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "vendor.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    half: ModuleType = __import__("half_done")

    with pytest.raises(PluginError, match="vendor"):
        discover(half, Connector, key="key")
