"""What is decided about tenants."""

import pytest

from bizosaas_events.messages.tenant import TenantCreated
from bizosaas_events.testing import given
from tenant_svc.domain.errors import SlugInvalidError, SlugTakenError
from tenant_svc.domain.tenant import TENANT
from tenant_svc.testing import a_tenant

CREATED = TenantCreated(tenant_id="acme-id", slug="acme", name="Acme")


def test_a_tenant_is_created() -> None:
    given(TENANT).when(a_tenant()).then(CREATED)


def test_a_tenant_is_created_once() -> None:
    given(TENANT, CREATED).when(a_tenant()).then_refused(SlugTakenError, slug="slug-taken")


@pytest.mark.parametrize("slug", ["", "a", "Acme", "1acme", "ac me", "ac_me", "a" * 41])
def test_a_slug_that_does_not_fit_an_address_is_refused(slug: str) -> None:
    given(TENANT).when(a_tenant(slug=slug)).then_refused(SlugInvalidError, slug="slug-invalid")
