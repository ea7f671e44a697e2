"""What tenant-svc alone needs from outside."""

from typing import Protocol

import msgspec


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Whom an address belongs to. Neither it nor the person's name is kept in clear."""

    member_id: str
    tenant_id: str
    role: str
    password_hash: str


class Accounts(Protocol):
    """The directory of slugs and addresses, each unique, with the password hashes that never become events."""

    async def claim_slug(self, slug: str, tenant_id: str) -> bool:
        """Reserve a slug for a tenant; False when another tenant has it. A repeat for the same tenant is True."""

    async def claim_email(self, email: str, account: Account) -> bool:
        """Reserve an address for a member; False when another member has it. A repeat for the same member is True."""

    async def find(self, email: str) -> Account | None:
        """The account of an address."""

    async def replace_hash(self, member_id: str, password_hash: str) -> None:
        """Keep a stronger hash of the same password."""

    async def remove(self, member_id: str) -> None:
        """Forget a member's address and password; there may be none."""


class Passwords(Protocol):
    """Hashing and checking passwords, slow on purpose."""

    async def hash(self, password: str) -> str:
        """A salted hash."""

    async def verify(self, password_hash: str, password: str) -> bool:
        """Whether the password is the one; takes as long for a wrong one."""

    def outdated(self, password_hash: str) -> bool:
        """Whether the hash was made with weaker parameters than today's."""
