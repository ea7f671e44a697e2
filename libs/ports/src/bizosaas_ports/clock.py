"""Clock and ids: what a decision must not read by itself."""

from collections.abc import Callable
from datetime import datetime

Clock = Callable[[], datetime]
"""The current time in UTC."""

NewId = Callable[[], str]
"""A new UUIDv7."""
