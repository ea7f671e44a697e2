"""Logs: one JSON object a line on stderr, without the values of secrets."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

HIDDEN = "***"
_SECRET_WORDS = (
    "password",
    "secret",
    "token",
    "sealed",
    "authorization",
    "cookie",
    "credential",
    "private_key",
    "api_key",
)
_REFERENCES = ("secret_id", "secret_version", "credential_version", "credential_expires_at")


def configure(service: str, level: str) -> None:
    """Send structlog and the standard library's logs through one pipeline."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        hide_secrets,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for noisy in ("httpx", "httpcore", "uvicorn.access", "alembic", "temporalio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.contextvars.bind_contextvars(service=service)


def hide_secrets(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace the value of every key that is named like a secret, at any depth."""
    return {key: _hide(key, value) for key, value in event.items()}


def _hide(key: str, value: Any) -> Any:
    lower = key.lower()
    if lower not in _REFERENCES and any(word in lower for word in _SECRET_WORDS):
        return HIDDEN
    if isinstance(value, dict):
        return {k: _hide(str(k), v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_hide("", each) for each in value]
    return value
