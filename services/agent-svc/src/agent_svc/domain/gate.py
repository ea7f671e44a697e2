"""The tool gate's decision: the only way from an agent to anything outside. Pure, and closed unless every rule says yes.

The rules, in order: the operation is in the pinned version, its arguments fit,
the tenant's policy and the caller's role allow its effect, approval, the
budget is not used up, exactly one connection can do it.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from bizosaas_ports.access import Feature, Role, allows
from bizosaas_ports.agent import AgentDefinition
from bizosaas_ports.capabilities import operations
from bizosaas_ports.operation import Effect, Operation

NEEDED: dict[Effect, Feature] = {
    "read": Feature.VIEW_AGENTS,
    "write": Feature.VIEW_AGENTS,
    "send": Feature.MANAGE_INTEGRATIONS,
    "money": Feature.MANAGE_INTEGRATIONS,
    "destroy": Feature.MANAGE_INTEGRATIONS,
}
"""What the calling person's role must have for an agent to have this effect on their behalf."""


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """A connection of the tenant, from connector-svc's events."""

    id: str
    connector: str
    status: str
    operations: list[str]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant forbids its agents; it can only be stricter than the rules here, save for `send`."""

    forbidden: frozenset[str] = frozenset()
    """Operations no agent may use."""
    send: Literal["approval", "allowed"] = "approval"
    """Whether what reaches other people waits for approval. `money` and `destroy` always do."""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What one run may do, fixed when it started and taken from its context only."""

    run_id: str
    definition: AgentDefinition
    role: str
    """The role of the person on whose behalf the agent works."""
    connection_id: str = ""
    """The connection the brief names; empty: the only suitable one."""
    policy: Policy = Policy()


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call of this run, as far as it has come."""

    step: int
    operation: str
    arguments_digest: str
    verdict: Literal["allowed", "denied"]
    rule: str
    reason: str
    connection_id: str = ""
    outcome: Literal["", "succeeded", "failed"] = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    allowed: bool
    rule: str
    reason: str
    connection_id: str = ""


def judge(
    operation: str, arguments: dict[str, Any], grant: Grant, connections: Sequence[Connection], calls: Sequence[Call]
) -> Verdict:
    """Decide on one tool call; `connections` are the tenant's, `calls` those of this run before it."""
    found = operations().get(operation)
    if found is None or operation not in grant.definition.tools:
        return _no("not-offered", "this version of the agent does not have this operation")
    if argument_problem(found, arguments):
        return _no("arguments", "the arguments do not fit the operation")
    if operation in grant.policy.forbidden:
        return _no("policy", "the tenant forbids its agents this operation")
    if not _role_allows(grant.role, found.effect):
        return _no("role", f"the caller's role {grant.role} does not allow an operation with the effect {found.effect}")
    if _needs_approval(found.effect, grant.policy):
        return _no("approval", f"needs approval, because its effect is {found.effect}")
    if len(calls) >= grant.definition.max_steps:
        return _no("budget", f"the run has used its {grant.definition.max_steps} tool calls")
    return _choose(operation, grant.connection_id, connections)


def _role_allows(role: str, effect: Effect) -> bool:
    """One of our own services, such as a schedule, brings no person with it: it may what everybody may, and no more."""
    return allows(Role.TENANT_USER if role == Role.SERVICE else role, NEEDED[effect])


def _needs_approval(effect: Effect, policy: Policy) -> bool:
    return effect in ("money", "destroy") or (effect == "send" and policy.send == "approval")


def _choose(operation: str, wanted: str, connections: Sequence[Connection]) -> Verdict:
    suitable = [c for c in connections if operation in c.operations]
    if wanted:
        suitable = [c for c in suitable if c.id == wanted]
    ready = [c for c in suitable if c.status == "connected"]
    if len(ready) == 1:
        return Verdict(allowed=True, rule="granted", reason="agent, tenant and caller may", connection_id=ready[0].id)
    if ready:
        return _no("connection-ambiguous", "several connections can do this: the brief has to name its connection_id")
    if suitable:
        return _no("connection-not-ready", f"the connection for it is {suitable[0].status}")
    return _no(
        "no-connection", "the tenant has no such connection for it" if wanted else "the tenant has no connection for it"
    )


def _no(rule: str, reason: str) -> Verdict:
    return Verdict(allowed=False, rule=rule, reason=reason)


def argument_problem(operation: Operation, arguments: dict[str, Any]) -> str:
    """What is wrong with a model's arguments, in words for the model: it may repeat a value. Empty: nothing."""
    try:
        msgspec.convert(arguments, operation.request)
    except msgspec.ValidationError as error:
        return str(error)
    return ""


def digest_of(operation: str, arguments: dict[str, Any]) -> str:
    """What two tool calls have in common when they ask for the same, however the arguments are written."""
    found = operations().get(operation)
    if found is not None and not argument_problem(found, arguments):
        arguments = msgspec.to_builtins(msgspec.convert(arguments, found.request))
    return _sha256([operation, arguments])


def idempotency_key(grant: Grant, call: Call, calls: Sequence[Call]) -> str:
    """The same for every try of the same call, another one for the same request once it had succeeded.

    So a call that broke off is found again and not repeated, and an agent
    that wants two equal things gets two.
    """
    nth = sum(
        c.step < call.step and c.arguments_digest == call.arguments_digest and c.outcome == "succeeded" for c in calls
    )
    return _sha256([grant.run_id, call.operation, call.arguments_digest, nth])


def _sha256(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()
