"""A state machine as a table, declared for `transitions` and compiled to a lookup.

1. A row says: in this source state this event leads to that target state.  What no row says is impossible.
2. There is at most one row for a source and an event, so an event alone decides the move.
3. Every thing starts in `absent`; a state that no row leaves is final.
4. `referee()` is the same table driven by the `transitions` library: the independent judge that tests and the
   audit hold against the lookup, because a lookup that agrees with itself proves nothing.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from attrs import frozen

from .errors import ImpossibleEvent
from .events import STORED, Event

if TYPE_CHECKING:
    from transitions import Machine as TransitionsMachine

ABSENT: Final = "absent"


@frozen
class Row:
    """One legal move, and where it needs saying, why it is legal."""

    source: str
    event: type[Event]
    target: str
    why: str = ""

    @property
    def trigger(self) -> str:
        """The stored name of the event, by which tables, diagrams and ledgers speak of it."""
        return STORED[self.event][0]


class Machine:
    """A named table of rows and the lookup compiled from it."""

    def __init__(self, name: str, of: str, rows: Sequence[Row]) -> None:
        self.name: Final = name
        self.of: Final = of
        self.rows: Final = tuple(rows)
        self.states: Final = tuple(dict.fromkeys([ABSENT, *(state for row in rows for state in (row.source, row.target))]))
        self.finals: Final = tuple(state for state in self.states if not any(row.source == state for row in rows))
        self._next: Final[dict[type[Event], dict[str, str]]] = {}
        for row in rows:
            targets = self._next.setdefault(row.event, {})
            if row.source in targets:
                raise ValueError(f"{name}: two rows for {row.trigger} in {row.source}")
            targets[row.source] = row.target

    def move(self, state: str, event: Event, entity: object) -> str:
        """The state after `event` in `state`.  Raises `ImpossibleEvent` where the table has no such row."""
        try:
            return self._next[type(event)][state]
        except KeyError:
            raise ImpossibleEvent(f"{self.name} {entity} is {state}: {STORED[type(event)][0]} cannot happen to it", f"{self.name} {entity}") from None

    def allows(self, state: str, event: type[Event]) -> bool:
        """Whether the table has a row for `event` in `state`."""
        return state in self._next.get(event, {})

    def referee(self) -> "TransitionsMachine":
        """A fresh `transitions` machine with this table, in `absent`; its triggers are the events' stored names."""
        from transitions import Machine as TransitionsMachine  # noqa: PLC0415 - only tools need it, and it takes a while to load

        return TransitionsMachine(
            states=list(self.states),
            initial=ABSENT,
            transitions=[{"trigger": row.trigger, "source": row.source, "dest": row.target} for row in self.rows],
            auto_transitions=False,
            name=self.name,
        )


def rows(*entries: tuple[str, type[Event], str] | tuple[str, type[Event], str, str]) -> list[Row]:
    """Rows from compact entries; a source may name several states, separated by spaces, and target `=` means no change."""
    result = []
    for sources, event, target, *why in entries:
        for source in sources.split():
            result.append(Row(source, event, source if target == "=" else target, *why))
    return result
