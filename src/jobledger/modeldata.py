"""The model as data: every state machine, event and invariant, for tools that check ledgers or generate code without this package.

Nothing here is written down twice: tables, records and judges are what jobledger itself runs by.
"""

import inspect
import types
import typing
from collections.abc import Iterator
from typing import Any, Final

import attrs

from . import __version__
from .core.events import STORED, Event
from .core.ids import Duration, ExecutionId, JobId, Micros, NodeId, PoolId, TaskId
from .core.invariants import INVARIANTS, Invariant
from .core.machines import MACHINES
from .diagrams import as_json

_NAMES: Final[dict[Any, str]] = {
    bool: "true or false",
    Duration: "microseconds",
    ExecutionId: "execution id",
    int: "number",
    JobId: "job id",
    Micros: "microseconds since 1970",
    NodeId: "node id",
    PoolId: "pool id",
    str: "text",
    TaskId: "task id",
    types.NoneType: "null",
}


def model_document() -> dict[str, Any]:
    """All of it: `machines`, `events` in the order in which the code lists them, and `invariants`."""
    return {
        "version": __version__,
        "machines": [as_json(machine) for machine in MACHINES.values()],
        "events": [_event(event) for event in STORED],
        "invariants": [_invariant(one) for one in INVARIANTS],
    }


def fields_of(event: type[Event]) -> Iterator[tuple[str, str, bool]]:
    """Each field of an event: its stored name, its type in words, and whether older ledgers may lack it."""
    hints = typing.get_type_hints(event)
    for field in attrs.fields(event):
        yield field.name, _type_name(hints[field.name]), field.default is not attrs.NOTHING


def prose_of(event: type[Event]) -> str:
    """What an event says of itself, empty where its name says it all."""
    return (inspect.getdoc(event) or "") if event.__doc__ is not None else ""


def _event(event: type[Event]) -> dict[str, Any]:
    name, version = STORED[event]
    return {
        "type": name,
        "version": version,
        "meaning": prose_of(event),
        "fields": [{"name": field, "type": kind, "optional": optional} for field, kind, optional in fields_of(event)],
        "machines": [machine.name for machine in MACHINES.values() if any(row.event is event for row in machine.rows)],
    }


def _invariant(one: Invariant) -> dict[str, Any]:
    return {"name": one.name, "sentence": one.sentence, "rule": one.rule, "judgedAt": [STORED[event][0] for event in one.on]}


def _type_name(kind: Any) -> str:
    if (name := _NAMES.get(kind)) is not None:
        return name
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return " or ".join(f"`{choice}`" for choice in arguments)
    if origin in {typing.Union, types.UnionType}:
        return ", or ".join(_type_name(argument) for argument in arguments)
    if origin is tuple:
        return f"list of {_type_name(arguments[0])}"
    return f"`{kind.__name__[0].lower()}{kind.__name__[1:]}`"
