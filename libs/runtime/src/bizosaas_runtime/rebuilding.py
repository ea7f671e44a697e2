"""The commands of operators about projections, which every service that has some accepts: built, compared, swapped, dropped.

Each may be refused for how far a version has come, so it is done first and
recorded then. What was recorded is not done again: somebody may have gone back
meanwhile.
"""

from collections.abc import Mapping

from bizosaas_events import AlreadyHandledError, Command, DomainError, Envelope, Kind
from bizosaas_events.bus import Answer, Handler, bind
from bizosaas_events.messages.operations import (
    BuildProjection,
    CompareProjections,
    DropProjection,
    ListProjections,
    ProjectionBuildStarted,
    ProjectionCommand,
    ProjectionDropped,
    ProjectionPage,
    ProjectionsCompared,
    ProjectionSwapped,
    ProjectionVersion,
    SwapProjection,
)
from bizosaas_events.projecting import Projector
from bizosaas_events.store.base import EventStore
from bizosaas_ports.access import PLATFORM_TENANT

from .operations import record

LARGEST_LIMIT = 1_000_000
MOST_DIFFERENCES = 200

Projectors = Mapping[str, Projector]


class ProjectionNotFoundError(DomainError):
    kind = Kind.NOT_FOUND
    slug = "not-found"

    def __init__(self, name: str, known: Projectors) -> None:
        there = f"There is {', '.join(sorted(known))}." if known else "This service has none."
        super().__init__(f"There is no projection {name[:100]!r} here.", field="projection", remedy=there)


class OutOfRangeError(DomainError):
    slug = "limit-invalid"

    def __init__(self, field: str, largest: int) -> None:
        super().__init__(f"{field} must be from 0 to {largest}.", field=field, remedy=f"Ask for {largest} or less.")


async def list_projections(command: ListProjections, envelope: Envelope, *, projectors: Projectors) -> Answer:
    """All versions that are there."""
    items = [progress for _, p in sorted(projectors.items()) for progress in await p.versions.progress()]
    return Answer(result=ProjectionPage(items=items))


async def build_projection(
    command: BuildProjection, envelope: Envelope, *, projectors: Projectors, store: EventStore
) -> Answer:
    """Raises BuildingError while one is being built."""
    await _refuse_repeated(store, envelope)
    projector = _find(command, projectors)
    version = await projector.versions.build(projector.newest)
    started = ProjectionBuildStarted(
        projection=version.name, version=version.number, definition_number=version.definition
    )
    return Answer(await _record(store, started, envelope), ProjectionVersion(version=version))


async def swap_projection(
    command: SwapProjection, envelope: Envelope, *, projectors: Projectors, store: EventStore
) -> Answer:
    """Raises VersionNotFoundError, TooFarBehindError, NotArrivingError."""
    _require("limit", command.limit, LARGEST_LIMIT)
    await _refuse_repeated(store, envelope)
    projector = _find(command, projectors)
    version = await projector.versions.swap(command.version, limit=command.limit, force=command.force)
    await projector.look()
    swapped = ProjectionSwapped(projection=version.name, version=version.number, forced=command.force)
    return Answer(await _record(store, swapped, envelope), ProjectionVersion(version=version))


async def drop_projection(
    command: DropProjection, envelope: Envelope, *, projectors: Projectors, store: EventStore
) -> Answer:
    """Raises VersionNotFoundError, InUseError."""
    await _refuse_repeated(store, envelope)
    version = await _find(command, projectors).versions.drop(command.version)
    dropped = ProjectionDropped(projection=version.name, version=version.number)
    return Answer(await _record(store, dropped, envelope), ProjectionVersion(version=version))


async def compare_projections(command: CompareProjections, envelope: Envelope, *, projectors: Projectors) -> Answer:
    """Raises VersionNotFoundError, TooFarBehindError, NotArrivingError."""
    _require("first", command.first, MOST_DIFFERENCES)
    projector = _find(command, projectors)
    compared = await projector.versions.compare(
        command.old, command.new, unlock=projector.newest.unlock, by=projector.newest.by, first=command.first
    )
    return Answer(result=ProjectionsCompared(comparison=compared))


def handlers(projectors: Projectors, store: EventStore) -> dict[type[Command], Handler]:
    """The table of them, for a service's own projections and log."""
    return bind(*HANDLERS, projectors=projectors, store=store)


def _find(command: ProjectionCommand, projectors: Projectors) -> Projector:
    if command.projection not in projectors:
        raise ProjectionNotFoundError(command.projection, projectors)
    return projectors[command.projection]


def _require(field: str, value: int, largest: int) -> None:
    if not 0 <= value <= largest:
        raise OutOfRangeError(field, largest)


async def _refuse_repeated(store: EventStore, envelope: Envelope) -> None:
    if await store.handled(envelope.id) is not None:
        raise AlreadyHandledError(envelope.id)


async def _record(
    store: EventStore, event: ProjectionBuildStarted | ProjectionSwapped | ProjectionDropped, envelope: Envelope
) -> Envelope:
    """In the platform's own history: a projection is no tenant's."""
    return await record(store, f"projection-{event.projection}", PLATFORM_TENANT, event, envelope)


HANDLERS = (list_projections, build_projection, swap_projection, drop_projection, compare_projections)
