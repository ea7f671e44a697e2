"""Where events are kept: one port, and each backend beside it."""

from .base import EventStore, Head, Write

__all__ = ["EventStore", "Head", "Write"]
