"""What an invariant is, and what is found where one does not hold; `invariants` has them all."""

from collections.abc import Callable, Iterator

from attrs import frozen

from . import events as e
from .history import History, Seen
from .ids import ExecutionKind, JobId, NodeId

Judge = Callable[[History, Seen], Iterator[str]]
"""Yields a text for each violation: what is wrong with the event, given the history before it."""


@frozen(kw_only=True)
class Invariant:
    """A named predicate.  `on` are the events that could break it; `rule` says where it comes from."""

    name: str
    sentence: str
    rule: str
    on: tuple[type[e.Event], ...]
    judge: Judge


@frozen(kw_only=True)
class Violation:
    """An invariant that does not hold: at which event (`index` counts from 0), and how."""

    invariant: str
    index: int
    position: int | None
    text: str

    def __str__(self) -> str:
        where = f"event {self.index}" if self.position is None else f"position {self.position}"
        return f"{self.invariant} at {where}: {self.text}"


def invariant(*on: type[e.Event], rule: str) -> Callable[[Judge], Invariant]:
    """Makes an invariant of a function: its name, and its docstring as the sentence."""

    def make(judge: Judge) -> Invariant:
        return Invariant(name=getattr(judge, "__name__", ""), sentence=" ".join((judge.__doc__ or "").split()), rule=rule, on=on, judge=judge)

    return make


def job_of(event: e.Event) -> JobId:
    """The job that the event names, empty where it names none."""
    return JobId(getattr(event, "job", None) or "")


def node_of(event: e.Event) -> NodeId:
    """The node that the event names, empty where it names none."""
    return NodeId(getattr(event, "node", None) or "")


def launches(event: e.Event, kind: ExecutionKind) -> bool:
    """Whether the event intends a launch of that kind."""
    return isinstance(event, e.ExecutionRequested) and event.kind == kind
