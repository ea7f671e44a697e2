"""No value and no sealed box appears in an event, a log line, an error or the repr of anything."""

import base64
import io
import json
import logging

import msgspec
import pytest

from bizosaas_events import new_id
from bizosaas_events.bus.base import decode_result
from bizosaas_events.messages.secret import ConfirmSecret, Leased, RevokeSecret
from bizosaas_ports.memory import MemorySecrets
from bizosaas_ports.sealing import SealingKey, seal
from bizosaas_runtime import logging as runtime_logging
from secret_svc.testing import FINGERPRINTS, KEY, MemorySecretService, a_context, a_lease, a_secret

CANARY = b"canary-5f0c1d"
CONFIGURED = "canary-configured-77aa"


def spellings(*secrets: bytes) -> list[str]:
    """How bytes may turn up in text."""
    found = []
    for secret in secrets:
        found += [secret.hex(), repr(secret)[2:-1], base64.b64encode(secret).decode().rstrip("=")]
    return found


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Everything that this process logs, down to DEBUG, as it would leave the process."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    runtime_logging.configure("secret-svc", "DEBUG")
    return stream


@pytest.fixture(autouse=True)
def _quiet_again() -> object:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    return None


async def test_no_value_and_no_box_leaves_through_events_logs_errors_or_reprs(logged: io.StringIO) -> None:
    vault, me = MemorySecrets(), SealingKey.generate()
    variables = {"BIZOS_SECRET_OAUTH_CRM_CLIENT_SECRET": CONFIGURED}
    service = MemorySecretService(vault=vault, environment=variables)
    platform = a_context("platform")
    store, lease = a_secret(value=CANARY), a_lease(me)
    stranger = seal(SealingKey.generate().public, CANARY)
    shown, boxes = (
        [repr(store), str(store), repr(KEY), repr(service.vault), repr(FINGERPRINTS)],
        [store.sealed, stranger],
    )

    leased = []
    for command, context in (
        (store, None), (lease, None), (lease, None), (a_lease(me, "oauth-crm"), platform),
        (msgspec.structs.replace(store, sealed=stranger), None), (store, a_context("other")),
        (ConfirmSecret(secret_id="crm", version=9), None), (msgspec.structs.replace(lease, recipient=b"?"), None),
    ):  # fmt: skip
        reply = await service.ask(command, context, id=new_id())
        if reply.problem is None and command.__class__ is lease.__class__:
            leased.append(decode_result(reply, Leased))
        elif reply.problem is not None:
            shown.append(repr(reply.problem))
    vault.away = True
    during = [store, lease, RevokeSecret(secret_id="crm", reason="leaked")]
    shown += [repr((await service.ask(command)).problem) for command in during]
    shown += [repr(each) for each in leased]
    boxes += [each.sealed for each in leased]

    assert len(leased) == 3
    events = [e for s in ("secret-crm", "secret-oauth-crm") for e in await service.store.load(s)]
    assert len(events) == 6
    shown += [event.data.decode() for event in events]
    lines = logged.getvalue().splitlines()
    assert any("away" in json.loads(line)["event"] for line in lines)
    everything = "\n".join([*shown, *lines])
    for spelling in spellings(CANARY, CONFIGURED.encode(), *boxes):
        assert spelling not in everything


async def test_a_value_named_like_a_secret_is_hidden_even_when_somebody_logs_it(logged: io.StringIO) -> None:
    import structlog

    structlog.get_logger("secret_svc").warning("oops", sealed=CANARY.decode(), client_secret=CANARY.decode())
    assert CANARY.decode() not in logged.getvalue()
    assert "oops" in logged.getvalue()
