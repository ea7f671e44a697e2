"""All operations of all capability ports, found by walking this package: a new port is one new file."""

import importlib
import pkgutil
from functools import cache

import bizosaas_ports

from .operation import Operation, operations_of


@cache
def operations() -> dict[str, Operation]:
    """Every operation of every `<Name>Port`, by `<port>.<operation>`; a port is called after its module."""
    found: dict[str, Operation] = {}
    for module in pkgutil.iter_modules(bizosaas_ports.__path__):
        if module.ispkg or module.name in ("capabilities", "operation"):
            continue
        loaded = importlib.import_module(f"bizosaas_ports.{module.name}")
        for name, value in vars(loaded).items():
            if isinstance(value, type) and name.endswith("Port") and value.__module__ == loaded.__name__:
                found |= operations_of(value, module.name)
    return found
