"""Every error to a problem: the gateway's edge, where the unknown ends as a 500 that tells nothing but its incident."""

import re

import asyncpg
import msgspec
import structlog
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException, ValidationException

from bizosaas_events import DomainError, UnavailableError, new_id, problem_of
from bizosaas_events.outages import OUTAGES

from .answers import Answer, problem_answer
from .call import ApiRequest, Call
from .errors import (
    InternalError,
    InvalidFieldError,
    InvalidParameterError,
    MalformedBodyError,
    MethodNotAllowedError,
    NoSuchPathError,
    UnknownFieldError,
)

_PATH = re.compile(r" - at `\$\.?(.*)`$")
_NAMED = re.compile(r"(unknown|missing required) field `(.*)`")

_log = structlog.get_logger(__name__)


def answer_for(error: BaseException, call: Call | None, *, method: str = "", path: str = "") -> Answer:
    """The problem that tells about an error."""
    refusal = refusal_of(error, method, path)
    if refusal is None:
        incident = new_id()
        _log.error("a request failed", incident=incident, method=method, path=path, exc_info=error)
        refusal = InternalError(incident)
    headers = {"Allow": refusal.allowed} if isinstance(refusal, MethodNotAllowedError) else {}
    return problem_answer(problem_of(refusal), call, headers)


def refusal_of(error: BaseException, method: str, path: str) -> DomainError | None:
    """The error as a refusal; None: nobody foresaw it."""
    match error:
        case DomainError():
            return error
        case msgspec.MsgspecError() | RecursionError() | UnicodeDecodeError():
            return body_error(error)
        case asyncpg.DataError():
            return None
        case _ if isinstance(error, (*OUTAGES, TimeoutError)):
            _log.warning("something needed is away", error=f"{type(error).__name__}: {error}", path=path)
            return UnavailableError("Something this needs is away for now.", remedy="Try again.", retry_after=2)
        case NotFoundException():
            return NoSuchPathError(path)
        case MethodNotAllowedException():
            allowed = (error.headers or {}).get("allow", "").split(", ")
            return MethodNotAllowedError(method, ", ".join(sorted(set(allowed) - {"OPTIONS"})))
        case ValidationException():
            return _parameter_error(error)
        case HTTPException() if error.status_code < 500:
            return MalformedBodyError(f"The request cannot be understood: {error.detail}", remedy="See /docs.")
        case _:
            return None


def body_error(error: Exception) -> DomainError:
    """What is wrong with a body, from msgspec's own words."""
    text = str(error)
    if isinstance(error, RecursionError):
        return MalformedBodyError("The body is nested too deeply.", remedy="Send a flatter document.")
    if not isinstance(error, msgspec.ValidationError):
        return MalformedBodyError(f"The body is not JSON: {text}.", remedy="Send one valid JSON document in UTF-8.")
    path = found[1] if (found := _PATH.search(text)) else ""
    what = _PATH.sub("", text)
    if named := _NAMED.search(what):
        field = f"{path}.{named[2]}" if path else named[2]
        if named[1] == "unknown":
            return UnknownFieldError(
                f"There is no field {field!r} here.", field=field, remedy="Leave it out, or check its spelling."
            )
        return InvalidFieldError(f"The field {field!r} is missing.", field=field, remedy="Send it; see /docs.")
    where = f"{path}: " if path else "The body: "
    return InvalidFieldError(f"{where}{what[0].lower()}{what[1:]}.", field=path, remedy="See /docs for what fits here.")


def _parameter_error(error: ValidationException) -> DomainError:
    extra = error.extra if isinstance(error.extra, list) else []
    first = extra[0] if extra and isinstance(extra[0], dict) else {}
    field = str(first.get("key", ""))
    if field == "data":
        return MalformedBodyError("This request needs a body.", remedy="Send a JSON document; see /docs.")
    return InvalidParameterError(
        f"{field}: {first['message']}." if field else str(error.detail),
        field=field,
        remedy="See /docs for what fits here.",
    )


def handle(request: ApiRequest, error: Exception) -> Answer:
    """Litestar's exception handler for everything."""
    return answer_for(error, request.call, method=request.scope["method"], path=request.scope["path"])
