"""Puts secret-svc together; the only file that knows every concrete class."""

import base64
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import structlog

from bizosaas_events import new_id
from bizosaas_events.bus import bind
from bizosaas_events.envelope import now
from bizosaas_ports.sealing import SealingKey
from bizosaas_ports.secret import SecretPort, SecretStoreUnavailableError
from bizosaas_runtime.health import Check
from bizosaas_runtime.settings import WrongSettingError
from bizosaas_runtime.worker import Consumer, Platform, Service

from ..adapters.cipher import parse_key
from ..adapters.env import ConfiguredSecrets, EnvSecretAdapter
from ..adapters.fingerprints import Fingerprints
from ..adapters.vault import VaultAdapter
from ..handlers.commands import HANDLERS
from ..handlers.reactions import Destroyer
from .settings import Settings

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def bootstrap(platform: Platform[Settings]) -> AsyncIterator[Service]:
    settings = platform.settings
    key = SealingKey.parse(settings.sealing_key.get_secret_value())
    async with _secret_store(settings) as (vault, checks):
        commands = bind(
            *HANDLERS, store=platform.store, vault=vault, key=key, fingerprint=_fingerprints(settings),
            configuration=ConfiguredSecrets(os.environ), now=now, new_id=new_id,
        )  # fmt: skip
        destroyer = Destroyer(vault, platform.store)
        yield Service(commands, consumers={"destroyer": Consumer(["secret"], destroyer.apply)}, checks=checks)


def _fingerprints(settings: Settings) -> Fingerprints:
    """Keyed by the master key where there is one, else by the sealing key: either never leaves this service."""
    if settings.secret_master_key is not None:
        return Fingerprints(parse_key(settings.secret_master_key.get_secret_value()))
    return Fingerprints(base64.b64decode(settings.sealing_key.get_secret_value()))


@asynccontextmanager
async def _secret_store(settings: Settings) -> AsyncIterator[tuple[SecretPort, Mapping[str, Check]]]:
    if settings.secret_backend != "vault":  # noqa: S105 - the name of a backend
        yield await _file(settings), {}
        return
    vault = VaultAdapter(
        settings.vault_url, role_id=settings.vault_role_id, secret_id=settings.vault_secret_id.get_secret_value(),
        wrapped_secret_id=settings.vault_wrapped_secret_id.get_secret_value(), mount=settings.vault_mount,
    )  # fmt: skip
    try:
        await vault.open()
    except SecretStoreUnavailableError as error:
        _log.warning("not signed in to Vault yet", reason=str(error))
    try:
        yield vault, {"vault": vault.check}
    finally:
        await vault.close()


async def _file(settings: Settings) -> EnvSecretAdapter:
    """The encrypted file. That it cannot be opened is a wrong setting, which waiting would not mend."""
    assert settings.secret_master_key is not None  # noqa: S101 - the settings see to it
    adapter = EnvSecretAdapter(settings.secret_store_path, parse_key(settings.secret_master_key.get_secret_value()))
    try:
        await adapter.open()
    except SecretStoreUnavailableError as error:
        raise WrongSettingError(str(error)) from error
    return adapter
