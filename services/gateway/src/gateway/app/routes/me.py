"""Who is signed in, and what they may do."""

import msgspec
from litestar import Controller, get

from bizosaas_ports.access import features

from ...adapters.sessions import csrf_token
from ..answers import Answer
from ..auth import needs
from ..call import ApiRequest


class Me(msgspec.Struct, frozen=True, kw_only=True):
    member_id: str
    tenant_id: str
    """One's own tenant."""
    acting_for: str
    """The tenant that this request acts for: another one only for platform administrators."""
    email: str
    name: str
    role: str
    features: list[str]
    csrf_token: str


class MeController(Controller):
    path = "/v1/me"
    tags = ("Signing in",)

    @get("/", opt=needs(None, answers=Me))
    async def who_am_i(self, request: ApiRequest) -> Answer:
        """Who is signed in, in which role, and what that role may do."""
        call, member = request.call, request.call.member
        me = Me(
            member_id=member.member_id, tenant_id=member.tenant_id, acting_for=call.tenant, email=member.email,
            name=member.name, role=member.role, features=features(member.role), csrf_token=csrf_token(call.token),
        )  # fmt: skip
        said = await call.gateway.persons.opened(msgspec.json.encode(me).decode(), member.tenant_id)
        return Answer(200, said.encode())
