"""Making values unreadable, after the event that says so."""

from bizosaas_ports.secret import SecretMissingError, SecretPort

SPAN = 1000
"""How far below a version others are destroyed. Each confirmation destroys what is below it, so no more than the
versions since the last one are left; the bound keeps a request small for a credential that is refreshed for years."""


async def destroy_older(vault: SecretPort, path: str, version: int) -> None:
    """Destroy every version before this one, also those that a broken-off command left without an event."""
    if version > 1:
        await vault.destroy(path, _up_to(version - 1))


async def destroy_all(vault: SecretPort, path: str, newest: int) -> None:
    """Destroy every version, also one that a broken-off command left behind the `newest` of our events."""
    try:
        _, found = await vault.get(path)
    except SecretMissingError:
        found = 0
    last = max(found, newest)
    if last:
        await vault.destroy(path, _up_to(last))


def _up_to(version: int) -> list[int]:
    return list(range(max(1, version - SPAN + 1), version + 1))
