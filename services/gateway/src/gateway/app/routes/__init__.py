"""The resources of the API, one controller per module; a new module is picked up by itself."""

import importlib
import pkgutil

from litestar import Controller


def controllers() -> list[type[Controller]]:
    """Every controller that a module of this package defines."""
    return [
        value
        for module in pkgutil.iter_modules(__path__)
        for value in vars(importlib.import_module(f"{__name__}.{module.name}")).values()
        if isinstance(value, type) and issubclass(value, Controller) and value.__module__ == f"{__name__}.{module.name}"
    ]
