"""Invariants: what holds of every ledger and every world, each with its sentence, checked without trusting the fold.

1. An invariant looks at one event, at the history before it, and, where it is given, at the world after it.
2. What it says is its docstring; its name is the function's.  Each rule has one invariant that speaks of it, so that a broken
   rule is reported once: an event that two might object to belongs to the more special one.
3. `Auditor` asks them all while a ledger grows, `audit` asks them of one that is written.  Nothing here raises.
"""

from collections.abc import Iterable
from typing import Final

from . import events as e
from .history import History, Seen
from .ids import Micros
from .judging import Invariant, Violation
from .promises_of_drains import OF_DRAINS
from .promises_of_ends import OF_ENDS
from .promises_of_files import OF_FILES
from .promises_of_finalizers import OF_FINALIZERS
from .promises_of_jobs import OF_JOBS
from .promises_of_limits import OF_LIMITS
from .promises_of_nodes import OF_NODES
from .promises_of_placement import OF_PLACEMENT
from .world import World

__all__ = ["INVARIANTS", "Auditor", "Invariant", "Violation", "audit"]

INVARIANTS: Final[tuple[Invariant, ...]] = (*OF_JOBS, *OF_ENDS, *OF_FINALIZERS, *OF_NODES, *OF_DRAINS, *OF_LIMITS, *OF_PLACEMENT, *OF_FILES)


class Auditor:
    """Asks the invariants of one event after the other, and remembers what it must."""

    def __init__(self, invariants: Iterable[Invariant] | None = None) -> None:
        self.history: Final = History()
        self._seen = 0
        self._on: Final[dict[type[e.Event], list[Invariant]]] = {}
        for one in INVARIANTS if invariants is None else invariants:
            for event in one.on:
                self._on.setdefault(event, []).append(one)

    def see(self, event: e.Event, at: Micros, world: World | None = None, position: int | None = None) -> list[Violation]:
        """The violations that `event`, recorded at `at`, brings about; `world` is the one after it."""
        seen = Seen(event=event, at=at, position=position, world=world)
        found = [
            Violation(invariant=one.name, index=self._seen, position=position, text=text)
            for one in self._on.get(type(event), ())
            for text in one.judge(self.history, seen)
        ]
        self.history.record(seen)
        self._seen += 1
        return found


def audit(events: Iterable[tuple[e.Event, Micros]]) -> list[Violation]:
    """Every violation in a history, from its beginning."""
    auditor = Auditor()
    return [violation for event, at in events for violation in auditor.see(event, at)]
