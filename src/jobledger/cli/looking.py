"""What the commands share that read a ledger and show what is in it."""

from collections.abc import Iterable

import click

from ..core.errors import RequestRefused
from ..core.ids import Micros
from ..core.ports import EventStore
from ..core.world import Job, World
from ..replay import replay
from ..surroundings import wall_clock
from ..views import find_job


def replayed(store: EventStore) -> tuple[World, int]:
    """The world as of now, and the ledger's position of which it is."""
    position = store.head().position
    world, _ = replay(store, until=position)
    return world, position


def job_in(store: EventStore, world: World, job: str) -> Job:
    """A job by id.  Refused: JobNotFound, with where its story is told if it was deleted."""
    try:
        return find_job(world, job)
    except RequestRefused as error:
        if next(store.read(stream=f"job/{job}"), None) is None:
            raise
        raise RequestRefused(error.code, f"job {job} was deleted; `jobledger events --job {job}` tells what happened to it") from None


def now() -> Micros:
    """The time, as the ledger counts it."""
    return Micros(wall_clock())


def now_in(store: EventStore, world: World) -> Micros:
    """The time in a ledger: in a dry run's, which has a clock of its own, that of its last event."""
    if not world.dry_run:
        return now()
    return next(recorded.recorded_at for recorded in store.read(after=store.head().position - 1))


def print_lines(lines: Iterable[str]) -> None:
    """Lines on standard output."""
    for line in lines:
        click.echo(line)
