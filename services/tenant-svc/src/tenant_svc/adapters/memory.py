"""The directory in memory, and passwords without the slowness: for tests."""

import hashlib

import msgspec

from ..domain.ports import Account


class MemoryAccounts:
    """See `Accounts`."""

    def __init__(self) -> None:
        self.slugs: dict[str, str] = {}
        self.accounts: dict[str, Account] = {}

    async def claim_slug(self, slug: str, tenant_id: str) -> bool:
        return self.slugs.setdefault(slug, tenant_id) == tenant_id

    async def claim_email(self, email: str, account: Account) -> bool:
        return self.accounts.setdefault(email, account).member_id == account.member_id

    async def find(self, email: str) -> Account | None:
        return self.accounts.get(email)

    async def replace_hash(self, member_id: str, password_hash: str) -> None:
        for email, account in self.accounts.items():
            if account.member_id == member_id:
                self.accounts[email] = msgspec.structs.replace(account, password_hash=password_hash)

    async def remove(self, member_id: str) -> None:
        self.accounts = {email: account for email, account in self.accounts.items() if account.member_id != member_id}


class PlainPasswords:
    """See `Passwords`: SHA-256, unsalted and fast."""

    async def hash(self, password: str) -> str:
        return hashlib.sha256(password.encode()).hexdigest()

    async def verify(self, password_hash: str, password: str) -> bool:
        return password_hash == await self.hash(password)

    def outdated(self, password_hash: str) -> bool:
        return False
