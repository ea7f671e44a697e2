"""IdentityPort: whom a connected account belongs to."""

from typing import Protocol

import msgspec

from .operation import operation


class GetProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str = ""
    email: str = ""


class IdentityPort(Protocol):
    @operation("read")
    async def get_profile(self, request: GetProfile) -> Profile:
        """Read the profile of the account that authorised the connection."""
