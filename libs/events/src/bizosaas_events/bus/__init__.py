"""How services ask each other: the port of a command bus, and each backend beside it."""

from .base import Answer, CommandBus, Handler, Names, answer, bind

__all__ = ["Answer", "CommandBus", "Handler", "Names", "answer", "bind"]
