"""What workflow-svc alone needs from outside."""

from collections.abc import Mapping

import msgspec

Catalogue = Mapping[str, type[msgspec.Struct]]
"""The workflows there are, by name, each with the type of its input."""
