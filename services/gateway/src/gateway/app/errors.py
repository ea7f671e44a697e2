"""Why the gateway itself refuses: input that cannot be understood, and requests that HTTP's own rules turn away."""

from bizosaas_events import DomainError, Kind, UnavailableError


class MalformedBodyError(DomainError):
    slug = "malformed-json"


class InvalidFieldError(DomainError):
    """`field` is the path of what does not fit, such as `arguments.items[0].id`."""

    slug = "invalid-field"


class UnknownFieldError(DomainError):
    slug = "unknown-field"


class InvalidParameterError(DomainError):
    """`field` names the query parameter or the header."""

    slug = "invalid-parameter"


class BodyTooLargeError(DomainError):
    slug = "too-large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body is larger than {limit} bytes.", remedy="Send less at once.")


class UnsupportedMediaTypeError(DomainError):
    slug = "unsupported-media-type"

    def __init__(self, said: str) -> None:
        what = f"the media type {said[:100]!r}" if said else "a body without a media type"
        super().__init__(
            f"This API does not read {what}.",
            field="Content-Type",
            remedy="Send JSON, with Content-Type: application/json.",
        )


class NotSignedInError(DomainError):
    kind = Kind.UNAUTHENTICATED
    slug = "not-signed-in"

    def __init__(self, message: str = "This needs somebody who is signed in.") -> None:
        super().__init__(message, remedy="Sign in with POST /v1/sessions and send the token, or the cookie.")


class CsrfError(DomainError):
    kind = Kind.FORBIDDEN
    slug = "csrf-token-missing"

    def __init__(self) -> None:
        super().__init__(
            "A change that is authenticated by the cookie needs the session's CSRF token.",
            field="X-CSRF-Token", remedy="Send the csrf_token that signing in, or GET /v1/me, has told.",
        )  # fmt: skip


class PermissionMissingError(DomainError):
    kind = Kind.FORBIDDEN
    slug = "permission-missing"

    def __init__(self, role: str, permission: str) -> None:
        super().__init__(
            f"The role {role} lacks the permission {permission}.", remedy="Ask an administrator of your tenant."
        )


class TooManyAttemptsError(DomainError):
    slug = "rate-limited"

    def __init__(self, seconds: float) -> None:
        super().__init__(
            "There were too many failed attempts to sign in.", remedy="Wait, then try again.", retry_after=seconds
        )


class KeyReusedError(DomainError):
    slug = "idempotency-key-reused"

    def __init__(self) -> None:
        super().__init__(
            "This Idempotency-Key was used for another request.", field="Idempotency-Key",
            remedy="Use a new key for a new request; repeat the old request unchanged.",
        )  # fmt: skip


class PreconditionRequiredError(DomainError):
    slug = "precondition-required"

    def __init__(self) -> None:
        super().__init__(
            "This change must say which version it is a change of.", field="If-Match",
            remedy="Read the object and send its ETag as If-Match.",
        )  # fmt: skip


class NoSuchPathError(DomainError):
    kind = Kind.NOT_FOUND
    slug = "unknown-path"

    def __init__(self, path: str) -> None:
        super().__init__(f"There is nothing at {path[:200]}.", remedy="See /docs for what there is.")


class MethodNotAllowedError(DomainError):
    slug = "method-not-allowed"

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"{method[:20]} is not possible here.", remedy=f"Use one of {allowed}.")
        self.allowed = allowed


class BehindError(UnavailableError):
    slug = "read-model-behind"

    def __init__(self, position: str) -> None:
        super().__init__(
            f"The read model has not reached {position} yet.", field="Read-After", remedy="Try again.", retry_after=1
        )


class StartingError(UnavailableError):
    slug = "starting"

    def __init__(self) -> None:
        super().__init__(
            "The gateway waits for its database or for Redis.", remedy="Try again in a moment.", retry_after=2
        )


class InternalError(DomainError):
    """Ours, not the caller's. The incident's id is all that is told; the log has the rest under it."""

    slug = "internal"

    def __init__(self, incident: str) -> None:
        super().__init__("Something went wrong on our side.", remedy=f"Tell the operator the incident {incident}.")
