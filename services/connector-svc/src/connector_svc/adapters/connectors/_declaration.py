"""What a connector is made of: one frozen value per vendor, plus small mapping functions.

To add one, write `<provider>.py` beside this file with one `Connector` in it.
Everything around it (credentials, refresh, retries, limits, errors, events)
is the engine's; the suite in tests/adapters/test_connectors.py finds it too.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter
from typing import Any, Literal

from bizosaas_events.messages.connector import ConnectorField, Method
from bizosaas_ports.capabilities import operations
from bizosaas_ports.connector import Account, CallResult, ConnectorError
from bizosaas_ports.operation import Idempotency, Operation

from ._api import Api

Field = ConnectorField
ClientAuth = Literal["client_secret_basic", "client_secret_post", "none"]
Refresh = Literal["static", "rotating", "none"]
"""static: the refresh token stays; rotating: each refresh gives a new one and ends the old; none: no renewal."""


@dataclass(frozen=True)
class Basic:
    """A name and a password or key that a person gives, sent as HTTP Basic (RFC 7617)."""

    username: Field
    password: Field

    @property
    def fields(self) -> tuple[Field, ...]:
        return (self.username, self.password)


@dataclass(frozen=True)
class OAuth2:
    """OAuth 2.0, authorization code. Endpoints are stated, or discovered from the issuer's metadata.

    With `discover` the issuer is `issuer`, or where that is empty the operator's
    BIZOS_OAUTH_<CONNECTOR>_ISSUER. URLs may hold `{setting}`s of the connection.
    """

    scopes: tuple[str, ...]
    required_scopes: tuple[str, ...] = ()
    """Without these the connector cannot work, whatever else was granted."""
    separator: str = " "
    discover: bool = False
    issuer: str = ""
    authorize_url: str = ""
    token_url: str = ""
    revoke_url: str = ""
    client_auth: ClientAuth = "client_secret_basic"
    pkce: bool = True
    refresh: Refresh = "static"
    authorize_params: Mapping[str, str] = field(default_factory=dict)

    @property
    def fields(self) -> tuple[Field, ...]:
        return ()


@dataclass(frozen=True)
class PageNumbers:
    """Pages counted from 1; our cursor is the next page's number."""

    page: str = "page"
    size: str = "per_page"
    max_size: int = 100
    total_header: str = ""

    def parameters(self, limit: int, cursor: str) -> dict[str, str | int]:
        """The query of one page. A cursor that is not ours starts from the beginning."""
        page = int(cursor) if re.fullmatch(r"[0-9]{1,9}", cursor) else 1
        return {self.page: max(page, 1), self.size: min(limit, self.max_size)}

    def next(self, asked: Mapping[str, str | int], total: int) -> str:
        """The cursor of the following page, empty when there is none."""
        page, size = int(asked[self.page]), int(asked[self.size])
        return str(page + 1) if page * size < total else ""


@dataclass(frozen=True)
class Limits:
    """How long we wait and how much we read."""

    connect_seconds: float = 5.0
    seconds: float = 20.0
    """For one request as a whole, its answer read to the end."""
    answer_bytes: int = 5 * 1024 * 1024
    retry_after: float = 30.0
    """After a 429 that does not say how long."""
    settle_seconds: float = 5.0
    """How long after a request broke off the vendor may still be applying it."""


@dataclass(frozen=True)
class ErrorRule:
    """An answer with this status (0: any) and vendor's code (empty: any) means `error`. The first that fits counts."""

    error: type[ConnectorError]
    says: str
    """Our sentence: it may become part of an event, so nothing of the vendor's is in it."""
    status: int = 0
    code: str = ""


def no_code(body: Any) -> str:
    return ""


@dataclass(frozen=True)
class Errors:
    """How the vendor's errors are read; what no rule names is told by its status (see `_api.py`)."""

    code: Callable[[Any], str] = no_code
    """The vendor's own code in the decoded body of an error."""
    message: Callable[[Any], str] = no_code
    rules: Sequence[ErrorRule] = ()


Run = Callable[[Api, Any, str], Awaitable[CallResult]]
Find = Callable[[Api, Any, str], Awaitable[CallResult | None]]


@dataclass(frozen=True)
class Action:
    """One operation of a port at this vendor: the functions take the API, the port's request and the idempotency key.

    `find` looks up whether an earlier try was applied, and answers what it
    left: give one to whatever has an effect, unless the vendor takes
    idempotency keys (`idempotency="key"`) and `run` sends the key.
    """

    run: Run
    find: Find | None = None
    idempotency: Idempotency = "none"


@dataclass(frozen=True)
class Connector:
    key: str
    name: str
    auth: Basic | OAuth2
    base_url: str
    """May hold `{setting}`s of the connection and `{issuer}`."""
    check: Callable[[Api], Awaitable[Account]]
    """The cheap call that says whom the vendor takes us for, and that the credential may do what we need."""
    actions: Mapping[str, Action]
    settings: tuple[Field, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    pagination: PageNumbers | None = None
    limits: Limits = Limits()
    errors: Errors = Errors()

    def __post_init__(self) -> None:
        """Refuse what could only fail later, naming it."""
        if not re.fullmatch(r"[a-z][a-z0-9-]*", self.key):
            raise ValueError(f"{self.key!r} cannot be a connector's key: a-z, 0-9 and hyphen")
        unknown = set(self.actions) - set(operations())
        if unknown:
            raise ValueError(f"{self.key}: no port has the operations {', '.join(sorted(unknown))}")
        known = {f.name for f in self.settings} | {"issuer"}
        placeholders = {name for _, name, _, _ in Formatter().parse(self.base_url) if name}
        if placeholders - known:
            raise ValueError(f"{self.key}: base_url names {', '.join(sorted(placeholders - known))}, no setting of it")

    @property
    def method(self) -> Method:
        return "oauth" if isinstance(self.auth, OAuth2) else "credentials"

    @property
    def operations(self) -> dict[str, Operation]:
        """The operations of ports that it offers, by name."""
        return {name: operations()[name] for name in self.actions}

    def idempotency(self, operation: str) -> Idempotency:
        """How a repeat of an operation is kept harmless."""
        action = self.actions[operation]
        if operations()[operation].effect == "read":
            return "safe"
        return "lookup" if action.find else action.idempotency
