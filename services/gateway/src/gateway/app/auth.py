"""Who may do what: the one gate that every route but the public ones lies behind.

Every handler says in its `opt` what it needs (`needs(...)`) or that it is
`PUBLIC`; one that says neither lets nobody in.
"""

import hmac
from http.cookies import CookieError, SimpleCookie
from typing import Any

from bizosaas_events import Command, DomainError, StreamNotFoundError
from bizosaas_ports.access import PLATFORM_TENANT, Feature, allows

from ..adapters.sessions import csrf_token
from .call import ApiRequest, Call
from .errors import CsrfError, InvalidParameterError, NoSuchPathError, NotSignedInError, PermissionMissingError
from .reading import ID, tenant_exists

COOKIE = "__Host-bizos_session"
PUBLIC = {"public": True}

_SAFE = ("GET", "HEAD", "OPTIONS")


def needs(what: type[Command] | Feature | None, **documented: Any) -> dict[str, Any]:
    """A handler's `opt`: the permission of the command it sends, a feature, or None: to be signed in is enough.

    `documented` is for the OpenAPI document: `page` or `one` (a kind of view), `writes`, `answers` (a type).
    """
    return {"needs": what.permission if isinstance(what, type) else what, **documented}


async def gate(request: ApiRequest) -> None:
    """Litestar's `before_request`: after routing, before anything of the request is looked at.

    Not a middleware and not a guard, which do the same for 10 and 15 µs more a request.
    """
    opt, method = request.route_handler.opt, request.scope["method"]
    for id in request.scope["path_params"].values():
        if not ID.fullmatch(id):
            raise NoSuchPathError(request.scope["path"])
    if b"%00" in request.scope["query_string"]:
        raise _nul(request)
    if "public" not in opt and method != "OPTIONS":
        await admit(request.call, method)
        require(request.call, opt["needs"])


async def admit(call: Call, method: str) -> None:
    """Find out who asks, and for which tenant. Raises NotSignedInError, CsrfError."""
    token, by_cookie = credentials(call)
    if not token:
        raise NotSignedInError
    session = await call.gateway.sessions.find(token)
    if session is None:
        raise NotSignedInError("The session has ended.")
    call.session, call.token, call.tenant = session, token, session.tenant_id
    if by_cookie and method not in _SAFE and not _same(call.header(b"x-csrf-token"), csrf_token(token)):
        raise CsrfError
    wanted = call.header(b"bizos-tenant")
    if wanted and wanted != session.tenant_id:
        await act_for(call, wanted)


async def act_for(call: Call, tenant: str) -> None:
    """Let a platform administrator act for a tenant. Raises PermissionMissingError, or as if there were no such tenant."""
    require(call, Feature.PLATFORM_MANAGEMENT)
    if tenant != PLATFORM_TENANT and not await tenant_exists(call, tenant):
        raise StreamNotFoundError(f"tenant-{tenant[:100]}")
    call.tenant = tenant


def require(call: Call, permission: str | None) -> None:
    """Raises PermissionMissingError, which names the permission."""
    role = call.member.role
    if not allows(role, permission):
        raise PermissionMissingError(role, str(permission))


def credentials(call: Call) -> tuple[str, bool]:
    """The session's token, and whether it came by cookie: a browser sends that one unasked."""
    authorization = call.headers.get(b"authorization")
    if authorization is not None:
        scheme, _, token = authorization.decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            raise NotSignedInError("Only the authorization scheme Bearer is known here.")
        return token.strip(), False
    cookie = call.headers.get(b"cookie")
    if cookie is None or COOKIE.encode() not in cookie:
        return "", False
    try:
        morsel = SimpleCookie(cookie.decode("latin-1")).get(COOKIE)
    except CookieError as error:
        raise _bad_cookie() from error
    return (morsel.value if morsel else ""), True


def _nul(request: ApiRequest) -> DomainError:
    """PostgreSQL takes no NUL: the services behind would try a command with one again and again."""
    fields = (name for name, value in request.query_params.items() if "\0" in f"{name}{value}")
    return InvalidParameterError(
        "A parameter holds the character NUL.", field=next(fields, "")[:50], remedy="Leave %00 out."
    )


def _bad_cookie() -> DomainError:
    return InvalidParameterError("The cookie cannot be read.", field="Cookie", remedy="Delete it and sign in again.")


def _same(said: str, expected: str) -> bool:
    return hmac.compare_digest(said.encode(), expected.encode())
