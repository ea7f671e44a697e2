"""Plug-ins by discovery: one per module of a package, found by walking it."""

import importlib
import pkgutil
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")


class PluginError(Exception):
    """A plug-in module is empty, or two have the same key: the process must not start."""


def discover(package: ModuleType, kind: type[T], *, key: str) -> dict[str, T]:
    """The one value of `kind` in each module of a package, by its attribute `key`.

    Modules whose name starts with an underscore are shared machinery and
    skipped. Raises PluginError, naming the module.
    """
    found: dict[str, T] = {}
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.startswith("_"):
            continue
        loaded = importlib.import_module(f"{package.__name__}.{module.name}")
        values = [value for value in vars(loaded).values() if isinstance(value, kind)]
        if len(values) != 1:
            raise PluginError(f"{loaded.__name__} defines {len(values)} values of {kind.__name__}, and must define one")
        name = str(getattr(values[0], key))
        if name in found:
            raise PluginError(f"{loaded.__name__}: the {key} {name!r} is taken by another module")
        found[name] = values[0]
    return found
