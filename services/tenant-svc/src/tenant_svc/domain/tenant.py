"""A tenant: one business and everything that belongs to it."""

import re
from typing import assert_never

from bizosaas_events import Decider
from bizosaas_events.messages.tenant import CreateTenant, TenantCreated, TenantEvent

from .errors import SlugInvalidError, SlugTakenError

SLUG = re.compile(r"[a-z][a-z0-9-]{1,39}")

State = str | None
"""The tenant's slug; None: there is no such tenant."""


def decide(command: CreateTenant, state: State) -> list[TenantEvent]:
    """Make the tenant once; its slug becomes part of addresses, so it must fit one."""
    if not SLUG.fullmatch(command.slug):
        raise SlugInvalidError(command.slug)
    if state is not None:
        raise SlugTakenError(state)
    return [TenantCreated(tenant_id=command.tenant_id, slug=command.slug, name=command.name)]


def evolve(state: State, event: TenantEvent) -> State:
    match event:
        case TenantCreated():
            return event.slug
        case _:
            assert_never(event)


TENANT: Decider[CreateTenant, State, TenantEvent] = Decider(
    category="tenant", initial=lambda: None, decide=decide, evolve=evolve
)
