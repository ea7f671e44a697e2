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

EXPLANATIONS: dict[str, str] = {
    "already-decided": "Somebody has decided this before; a verdict is given once and stands.",
    "arguments-changed": "The verdict was about other arguments than those that wait now. Look at them and decide again.",
    "call-uncertain": "The external system was asked and did not answer: it may or may not have done it. A person has to look.",
    "connection-closed": "The connection was ended. Connect the system again to use it.",
    "credential-refused": "The external system does not accept the credential. Check it, or connect again.",
    "csrf-token-missing": "A browser sends cookies unasked, so a change also needs the session's CSRF token as X-CSRF-Token.",
    "email-taken": "The address belongs to an account already.",
    "idempotency-key-reused": "An Idempotency-Key stands for one request. With another body it must be another key.",
    "internal": "The fault is ours. The operator finds what happened under the incident's id; trying again may help.",
    "invalid-field": "A field of the body is missing or has a value that does not fit; `field` is its path.",
    "invalid-parameter": "A query parameter or a header does not fit; `field` names it.",
    "malformed-json": "The body is not one valid JSON document in UTF-8.",
    "method-not-allowed": "The path exists, and takes other methods; the header Allow lists them.",
    "no-answer-yet": "The request was handed over and its answer did not come in time. It goes on; ask again later.",
    "not-found": "There is no such object for your tenant. An object of another tenant is answered in the same words.",
    "not-signed-in": "The request needs a session: sign in, and send its token or its cookie.",
    "oauth-state-expired": "The person took longer at the vendor's page than the state is valid. Begin again.",
    "oauth-state-unknown": "Nobody here began this authorization. Begin with POST /v1/oauth/authorize/<connector>.",
    "oauth-state-used": "The vendor's answer was handed in before; a state is good for one use.",
    "permission-missing": "The role of who asks does not include the permission that `detail` names.",
    "precondition-required": "A change must name the version it is a change of: send the object's ETag as If-Match.",
    "projection-behind": "The version of the projection lacks events that the one that is read has. Wait, or force it.",
    "projection-being-built": "A version of the projection is being built already. Swap to it or drop it first.",
    "projection-in-use": "The version of the projection is read, or was a moment ago.",
    "provider-down": "The external system does not answer, or answers with an error of its own. Try again later.",
    "rate-limited": "There were too many requests; Retry-After says when the next one is welcome.",
    "read-model-behind": "What was written is not readable yet. Nothing is lost; try again.",
    "reconnect-needed": "The external system has withdrawn the credential: a person has to connect again.",
    "role-not-allowed": "Who gives a role can give none above their own, and platform roles only within the platform.",
    "scope-missing": "The credential is good but was not given the right to do this. Connect again with that scope.",
    "sign-in-refused": "The address or the password is wrong. Which of the two is not told.",
    "slug-taken": "Another tenant has this slug.",
    "stale-version": "The object has changed since it was read. Read it again and decide anew.",
    "starting": "The process waits for something it needs, such as its database.",
    "too-large": "A body may have at most 1 MiB.",
    "unavailable": "Something needed for this is away for now, and nothing was changed. Retry-After says when to try again.",
    "unknown-connector": "There is no connector of this name; GET /v1/connectors lists what there is.",
    "unknown-field": "The body has a field that does not exist here, often a misspelt one; `field` names it.",
    "unknown-operation": "The connector has no such operation; GET /v1/connectors lists them.",
    "unknown-path": "There is nothing at this path; the documentation at /docs lists what there is.",
    "unsupported-media-type": "Bodies are JSON: send Content-Type: application/json.",
}
"""What a type of problem means, for whoever follows the `type` of one."""
_OTHER = "A service refused this. `detail` says what was wrong, `field` where, and `remedy` what to do about it."


def explain(slug: str) -> str:
    """One or two sentences about a type of problem."""
    return EXPLANATIONS.get(slug, _OTHER)


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
