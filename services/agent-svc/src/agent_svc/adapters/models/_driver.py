"""What a driver's file defines: its name and how it is opened."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from bizosaas_ports.model import ModelPort


class DriverSettingsError(ValueError):
    """A driver lacks a setting; the message begins with the variable's name."""


@dataclass(frozen=True)
class Driver:
    """`open` takes the settings whose variables begin with BIZOS_MODEL_, by their lower-case rest."""

    name: str
    open: Callable[[Mapping[str, str]], AbstractAsyncContextManager[ModelPort]]
