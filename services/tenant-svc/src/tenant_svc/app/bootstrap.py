"""Puts tenant-svc together; the only file that knows every concrete class."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import NAMESPACE_URL, uuid5

import structlog

from bizosaas_events import AlreadyHandledError, Context, DomainError, Envelope
from bizosaas_events.bus import bind
from bizosaas_events.bus.base import command_envelope
from bizosaas_events.envelope import now
from bizosaas_events.messages.tenant import AddMember
from bizosaas_events.personal import MasterKey, WrongMasterKeyError
from bizosaas_events.store.person_keys import PersonKeys
from bizosaas_ports.access import PLATFORM_TENANT, Role
from bizosaas_ports.sealing import SealingKey, seal
from bizosaas_runtime.settings import WrongSettingError
from bizosaas_runtime.worker import Platform, Service

from ..adapters.accounts import PostgresAccounts
from ..adapters.passwords import Argon2Passwords
from ..domain.member import normal
from ..handlers.commands import HANDLERS
from .settings import Settings

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def bootstrap(platform: Platform[Settings]) -> AsyncIterator[Service]:
    settings = platform.settings
    key = SealingKey.parse(settings.sealing_key.get_secret_value())
    passwords = Argon2Passwords()
    master = MasterKey.parse(settings.personal_master_key.get_secret_value())
    platform.store.keys = await _person_keys(platform, master)
    accounts = PostgresAccounts(platform.pool, master.derive("addresses of accounts"))
    await accounts.close()
    commands = bind(
        *HANDLERS, store=platform.store, accounts=accounts, passwords=passwords, key=key,
        decoy_hash=await passwords.hash("nobody's password"),
    )  # fmt: skip
    if settings.admin_email and await accounts.find(normal(settings.admin_email)) is None:
        command, envelope = first_admin(settings, key, platform)
        try:
            await commands[AddMember](command, envelope)
            _log.info("made the first super admin")
        except AlreadyHandledError:
            _log.info("another process made the first super admin")
        except DomainError as error:
            name = "BIZOS_ADMIN_PASSWORD" if error.field == "password" else "BIZOS_ADMIN_EMAIL"
            raise WrongSettingError(f"{name} is wrong: {error} {error.remedy}") from error
    yield Service(commands)


async def _person_keys(platform: Platform[Settings], master: MasterKey) -> PersonKeys:
    """The keys of the members. Another master key is a wrong setting: it would open nothing, and lose what is new."""
    keys = PersonKeys(platform.pool, master)
    try:
        await keys.check()
    except WrongMasterKeyError as error:
        raise WrongSettingError(
            "BIZOS_PERSONAL_MASTER_KEY is not the key that the members' names are kept with: put that one back."
        ) from error
    return keys


def first_admin(settings: Settings, key: SealingKey, platform: Platform[Settings]) -> tuple[AddMember, Envelope]:
    """The command that makes the first super admin; the same id in every process, so that it happens once."""
    id = str(uuid5(NAMESPACE_URL, f"bizosaas:first-admin:{settings.admin_email}"))
    command = AddMember(
        member_id=id, email=settings.admin_email, name="First administrator", role="super_admin",
        sealed_password=seal(key.public, settings.admin_password.get_secret_value().encode()),
    )  # fmt: skip
    context = Context(
        tenant=PLATFORM_TENANT, actor="service:tenant-svc", role=Role.SERVICE, time=now(), correlation_id=id,
        causation_id=id,
    )  # fmt: skip
    return command, command_envelope(command, context, platform.store.codec, id=id, source="tenant-svc")
