"""Refusals to HTTP: the one place that knows both kinds of error and status codes (RFC 9457)."""

from typing import Any

from bizosaas_events import Kind, Problem

TYPE_BASE = "/problems/"

STATUS: dict[str, int] = {
    Kind.INVALID: 400,
    Kind.UNAUTHENTICATED: 401,
    Kind.FORBIDDEN: 403,
    Kind.NOT_FOUND: 404,
    Kind.CONFLICT: 409,
    Kind.UNAVAILABLE: 503,
}
_STATUS_OF_SLUG = {
    "stale-version": 412,
    "precondition-required": 428,
    "too-large": 413,
    "unsupported-media-type": 415,
    "method-not-allowed": 405,
    "idempotency-key-reused": 422,
    "rate-limited": 429,
    "no-answer-yet": 504,
    "internal": 500,
}


def status_of(problem: Problem) -> int:
    """The HTTP status of a refusal."""
    return _STATUS_OF_SLUG.get(problem.slug) or STATUS.get(problem.kind, 500)


def document(problem: Problem, instance: str = "") -> dict[str, Any]:
    """The `application/problem+json` document: `type` is stable, `field` and `remedy` are our extensions."""
    status = status_of(problem)
    body: dict[str, Any] = {
        "type": TYPE_BASE + problem.slug,
        "title": problem.slug.replace("-", " ").capitalize(),
        "status": status,
        "detail": problem.detail,
    }
    if instance:
        body["instance"] = instance
    if problem.field:
        body["field"] = problem.field
    if problem.remedy:
        body["remedy"] = problem.remedy
    return body


def headers(problem: Problem) -> dict[str, str]:
    """`Retry-After` in whole seconds where trying again makes sense."""
    if problem.retry_after is None:
        return {"Retry-After": "2"} if status_of(problem) == 503 else {}
    return {"Retry-After": str(max(1, round(problem.retry_after)))}
