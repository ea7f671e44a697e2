"""The published language of the platform: what each service accepts and emits, and the public views of it.

One module per service, and `operations` for what all of them accept; a new module is picked up by itself.
"""

import importlib
import pkgutil
from functools import cache
from types import ModuleType

from ..codec import Codec
from ..envelope import Envelope
from ..projection import View


@cache
def modules() -> tuple[ModuleType, ...]:
    """The modules, by name."""
    return tuple(importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))


@cache
def codec() -> Codec:
    """A codec that knows every message of every service."""
    return Codec.of(*modules())


@cache
def views() -> dict[str, View]:
    """The public view of each kind of object, by the category of its streams."""
    return {category: view for module in modules() for category, view in getattr(module, "VIEWS", {}).items()}


def category_of(stream: str) -> str:
    """`connection` of `connection-018f…`."""
    return stream.partition("-")[0]


def log_of(envelope: Envelope) -> str:
    """Which log an event is from: each service has one, and names itself as the source of what it records."""
    return envelope.source.removesuffix("-svc")


def categories() -> tuple[str, ...]:
    """The event logs of the platform, one per service."""
    return tuple(module.SERVICE for module in modules() if hasattr(module, "SERVICE"))
