"""The table of roles and features."""

import pytest

from bizosaas_ports.access import Feature, Role, allows, features

EXPECTED = """
view_dashboard       yes yes yes yes
manage_integrations  no  yes yes yes
view_agents          yes yes yes yes
configure_agents     no  no  yes yes
fine_tune_agents     no  no  no  yes
platform_management  no  no  yes yes
tenant_management    no  no  yes yes
system_settings      no  no  no  yes
"""
PEOPLE = (Role.TENANT_USER, Role.TENANT_ADMIN, Role.PLATFORM_ADMIN, Role.SUPER_ADMIN)
CELLS = [
    (role, feature, said == "yes")
    for feature, *row in (line.split() for line in EXPECTED.strip().splitlines())
    for role, said in zip(PEOPLE, row, strict=True)
]


@pytest.mark.parametrize(("role", "feature", "allowed"), CELLS)
def test_the_table_is_as_it_was_agreed(role: Role, feature: str, allowed: bool) -> None:
    assert allows(role, feature) is allowed
    assert (feature in features(role)) is allowed


def test_only_a_service_may_do_what_is_for_services() -> None:
    assert allows(Role.SERVICE, "service")
    assert not any(allows(role, "service") for role in PEOPLE)


@pytest.mark.parametrize("role", ["", "root", "TENANT_ADMIN"])
def test_an_unknown_role_may_do_nothing(role: str) -> None:
    assert not any(allows(role, feature) for feature in Feature)
