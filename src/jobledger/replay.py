"""Replay: a world from a ledger, by the same fold that live running uses."""

from collections.abc import Callable
from itertools import islice

from . import snapshots
from .core.advance import reconsider
from .core.errors import ImpossibleEvent
from .core.events import STORED
from .core.evolve import evolve
from .core.ids import Micros
from .core.ports import EventStore, RecordedEvent
from .core.world import World

STORY_MAX = 8
"""Events of an entity that an `ImpossibleEvent` carries."""


def replay(store: EventStore, *, until: int | None = None, hear: Callable[[RecordedEvent], None] | None = None) -> tuple[World, Micros]:
    """The world after position `until` (or all of it), and when its last event was recorded (0 for an empty ledger).

    `hear` is told each event, from the first; without it a snapshot that fits saves what came before it, the check of the chain included.
    Raises `LedgerCorrupt`, and `ImpossibleEvent` with the entity's last events where the ledger tells an impossible story.
    """
    snapshot = snapshots.load(store, until=until) if hear is None else None
    world, at, position = (World(), Micros(0), 0) if snapshot is None else (snapshot.world, snapshot.at, snapshot.position)
    try:
        for recorded in store.read(after=position, until=until):
            position, at = recorded.position, recorded.recorded_at
            evolve(world, recorded.event, at)
            if hear is not None:
                hear(recorded)
    except ImpossibleEvent as error:
        tell_story(store, error, position)
        raise
    reconsider(world)
    return world, at


def tell_story(store: EventStore, error: ImpossibleEvent, until: int) -> None:
    """Give an `ImpossibleEvent` the last events of its stream up to a position."""
    stream = [f"{recorded.position} {STORED[type(recorded.event)][0]}" for recorded in store.read(until=until, stream=error.stream)]
    error.tell(list(islice(stream, max(0, len(stream) - STORY_MAX), None)))
