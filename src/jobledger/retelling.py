"""Retelling: a ledger event by event, through the fold, the tables and all invariants.

1. Every event is retold, with the moves of states that it makes by the tables and with what is wrong about it.
2. An event that cannot be folded is a finding.  From there on there is no world any more, and what follows is judged by those
   invariants that look at events alone, and by the tables.
3. The ledger is read once and nothing is kept of it but what the judges remember, so that it may be of any length.
"""

from collections.abc import Iterator
from typing import Final

from attrs import frozen

from .core.errors import ImpossibleEvent
from .core.events import Event, stream_of
from .core.evolve import evolve
from .core.ids import ENGINE_HOST
from .core.invariants import INVARIANTS, Auditor
from .core.machine import ABSENT
from .core.ports import EventStore, RecordedEvent
from .core.subjects import Key, moves
from .core.world import World

FOLD: Final = "fold"
"""What stands in the place of an invariant's name where an event could not be folded."""

FOLD_SENTENCE: Final = "Every event can happen in the state in which its things are."

SENTENCES: Final = {one.name: one.sentence for one in INVARIANTS} | {FOLD: FOLD_SENTENCE}


@frozen(kw_only=True)
class Move:
    """One thing going from one state of its machine to another."""

    machine: str
    entity: str
    source: str
    target: str


@frozen(kw_only=True)
class Finding:
    """Something that must hold does not, at the event with that position."""

    position: int
    invariant: str
    text: str
    entity: str
    """The thing that the event is about, such as `task j/t1`."""

    @property
    def sentence(self) -> str:
        """What should hold."""
        return SENTENCES[self.invariant]


@frozen(kw_only=True)
class Told:
    """One event, and what comes of it.  `folds` is False from the first event on that the fold refused."""

    recorded: RecordedEvent
    moves: tuple[Move, ...]
    findings: tuple[Finding, ...]
    folds: bool


def retell(store: EventStore) -> Iterator[Told]:
    """Every event of the ledger, in order.  Raises what `EventStore.read` raises, where the log cannot be read any further."""
    auditor = Auditor()
    world: World | None = World()
    for recorded in store.read():
        event, position = recorded.event, recorded.position
        entity = entity_of(event)
        made = tuple(_moves(auditor, event))
        findings = []
        if world is not None:
            try:
                evolve(world, event, recorded.recorded_at)
            except ImpossibleEvent as error:
                findings.append(Finding(position=position, invariant=FOLD, text=str(error), entity=entity))
                world = None
        violations = auditor.see(event, recorded.recorded_at, world, position)
        findings += (Finding(position=position, invariant=one.invariant, text=one.text, entity=entity) for one in violations)
        yield Told(recorded=recorded, moves=made, findings=tuple(findings), folds=world is not None)


def entity_of(event: Event) -> str:
    """The thing that an event is about, by its machine and ids: `task j/t1`; its stream where no machine knows the event."""
    return next((_name(key) for _, key in moves(event)), stream_of(event).replace("/", " "))


def _moves(auditor: Auditor, event: Event) -> Iterator[Move]:
    """The moves that the event makes by the tables alone; one that leaves a state as it is makes none."""
    for machine, key in moves(event):
        source = auditor.history.states.get(key, ABSENT)
        if not machine.allows(source, type(event)):
            continue
        target = machine.move(source, event, machine.name)
        if target != source:
            yield Move(machine=machine.name, entity=_entity(key), source=source, target=target)


def _entity(key: Key) -> str:
    return "/".join("the engine's host" if part == ENGINE_HOST else part for part in key[1:])


def _name(key: Key) -> str:
    return f"{key[0]} {_entity(key)}"
