"""Who may do what: the roles, the features, and the one table that joins them."""

from enum import StrEnum


class Role(StrEnum):
    TENANT_USER = "tenant_user"
    TENANT_ADMIN = "tenant_admin"
    PLATFORM_ADMIN = "platform_admin"
    SUPER_ADMIN = "super_admin"
    SERVICE = "service"
    """One of our own services; never a person's role."""


class Feature(StrEnum):
    VIEW_DASHBOARD = "view_dashboard"
    MANAGE_INTEGRATIONS = "manage_integrations"
    VIEW_AGENTS = "view_agents"
    CONFIGURE_AGENTS = "configure_agents"
    FINE_TUNE_AGENTS = "fine_tune_agents"
    PLATFORM_MANAGEMENT = "platform_management"
    TENANT_MANAGEMENT = "tenant_management"
    SYSTEM_SETTINGS = "system_settings"


_USER = {Feature.VIEW_DASHBOARD, Feature.VIEW_AGENTS}
_ADMIN = _USER | {Feature.MANAGE_INTEGRATIONS}
_PLATFORM = _ADMIN | {Feature.CONFIGURE_AGENTS, Feature.PLATFORM_MANAGEMENT, Feature.TENANT_MANAGEMENT}

TABLE: dict[Role, frozenset[Feature]] = {
    Role.TENANT_USER: frozenset(_USER),
    Role.TENANT_ADMIN: frozenset(_ADMIN),
    Role.PLATFORM_ADMIN: frozenset(_PLATFORM),
    Role.SUPER_ADMIN: frozenset(Feature),
    Role.SERVICE: frozenset(Feature),
}

PLATFORM_TENANT = "platform"
"""The tenant of platform admins, of published agents and of the platform's own secrets."""


def allows(role: str, permission: str | None) -> bool:
    """Whether a role may use a feature. None is open to all; `service` is for our own services only."""
    if permission is None or role == Role.SERVICE:
        return True
    return role in TABLE and permission in TABLE[Role(role)]


def features(role: str) -> list[str]:
    """The features of a person's role, in the table's order, as `GET /v1/me` tells the portals."""
    return [feature for feature in Feature if allows(role, feature)]
