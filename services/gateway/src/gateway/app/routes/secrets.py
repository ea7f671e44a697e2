"""References to credentials: never their values."""

from litestar import Controller, get
from litestar.params import FromPath

from bizosaas_ports.access import Feature

from ..answers import Answer
from ..auth import needs
from ..call import ApiRequest
from ..reading import one, page


class Secrets(Controller):
    path = "/v1/secrets"
    tags = ("Credentials",)

    @get("/", opt=needs(Feature.MANAGE_INTEGRATIONS, page="secret"))
    async def list_secrets(self, request: ApiRequest) -> Answer:
        """The tenant's credentials: kind, version, fingerprint and last use."""
        return await page(request, "secret")

    @get("/{secret_id:str}", opt=needs(Feature.MANAGE_INTEGRATIONS, one="secret"))
    async def show_secret(self, request: ApiRequest, secret_id: FromPath[str]) -> Answer:
        """One of them."""
        return await one(request, "secret", secret_id)
