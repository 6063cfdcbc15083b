"""What the scenario file's properties are, as a JSON Schema for editors and as a page for people; both are made from the records.

Names, types, defaults and what is required come from the records of `executors.fortune`; the meanings below are all that is written by hand,
and a test holds them to exactly the records' fields.
"""

import inspect
import typing
from collections.abc import Iterator
from typing import Any, Final, Literal

from . import durations
from .core.ids import Duration
from .executors.fortune import ORDINARY_TROUBLE, USUAL, Exponential, LaunchRule, Lognormal, NodeRule, Scenario, Span, Uniform
from .jobschema import SCHEMA_DIALECT
from .jsonnames import Name, names_of, record_in
from .scenariofile import LISTS
from .specjson import unstructure

RECORDS: Final[dict[type, str]] = {
    Scenario: "scenario",
    LaunchRule: "launchRule",
    NodeRule: "nodeRule",
    Span: "span",
    Uniform: "uniform",
    Lognormal: "lognormal",
    Exponential: "exponential",
}
"""Every record of a scenario file in reading order, with the name it has in the schema and on the page."""

_PATTERNS: Final = "patterns with `*`, `?` and `[...]`, of which one has to fit"

MEANINGS: Final[dict[type, dict[str, str]]] = {
    Scenario: {
        "launches": "Rules about what is run. For each thing to know (how long it takes, how it ends, whether it writes) the first rule counts that fits "
        "and says it.",
        "nodes": "Rules about nodes. Each of them happens to every node that fits.",
        "bootDuration": "How long a node takes to boot; a duration or a span.",
    },
    LaunchRule: {
        "kinds": "Which kinds of command lines: a job's tasks, preparation, release and finalizer, and the nodes' start tasks.",
        "jobs": f"Ids of jobs: {_PATTERNS}. A start task has none, which is the empty text.",
        "tasks": f"Ids of tasks, or those of the preparation, release or finalizer, or `starttask`: {_PATTERNS}.",
        "nodes": f"Ids of nodes, `.engine` for the engine's host: {_PATTERNS}.",
        "commandLines": f"Whole command lines: {_PATTERNS}.",
        "attempts": "Which launches of a task, or of another command line on one node, counted from 1.",
        "after": "Only what is launched so long after the beginning, or later.",
        "before": "Only what is launched earlier than that.",
        "probability": "The share of what fits to which the rule applies; the rest goes on to the next rule.",
        "duration": "How long it takes; a duration or a span.",
        "exitCode": "It ends with this exit code; 0 says that it succeeds, whatever later rules or recordings say.",
        "signal": "It is ended by the signal of this number.",
        "notStarted": "It cannot be launched, for this failure code, such as `BlobNotFound` or `CommandProgramNotFound`.",
        "uploadFailure": "Its output files, if it has any, cannot be uploaded, for this failure code, such as `BlobUploadFailed`.",
        "lost": "It ends, and nobody sees how: it will be run again.",
        "hangs": "It does not end until it is stopped.",
        "silent": "It writes nothing, which only matters where a task has a `silentTimeout`.",
        "ignoresStop": "It does not end when it is told to, but is killed at the end of its grace.",
    },
    NodeRule: {
        "nodes": f"Ids of nodes: {_PATTERNS}. Without any it is about all.",
        "fault": "`reboot`: it reboots by itself. `unusable`: it says that it is. `lost`: it is heard of no more. `preempted`: it is taken away. "
        "`wiped`: it is there, without its files.",
        "at": "When it happens, once, from the beginning on; to a node that is not there yet it does not happen.",
        "meanTimeBetween": "How long it is between two times that it happens to one node, on the average, while anything runs.",
        "backAfter": "When the node is back, or has booted; without it a reboot takes the `bootDuration`, and what is unusable, lost or preempted stays so.",
        "reason": "Why, for the record.",
    },
    Span: {
        "fixed": "Always so long. A duration that stands in place of the span means this.",
        "uniform": "Between two durations, all equally likely.",
        "lognormal": "As most programs take: around a median, and a few much longer.",
        "exponential": "As the time until something happens that may happen at any moment.",
    },
    Uniform: {"least": "The shortest.", "most": "The longest."},
    Lognormal: {
        "median": "Half of them are shorter.",
        "sigma": "How far they are spread: with 0.5 two of three are between 0.6 times and 1.65 times the median, with 0 all are the same.",
    },
    Exponential: {"mean": "Their average."},
}

_BOUNDS: Final[dict[tuple[type, str], tuple[float, float]]] = {
    (LaunchRule, "exitCode"): (0, 255),
    (LaunchRule, "signal"): (1, 64),
    (Lognormal, "sigma"): (0, 5),
}

_DURATION: Final = {"type": "string", "format": "duration", "pattern": f"^{durations.PATTERN}$"}
_PLAIN: Final[dict[Any, dict[str, Any]]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    Duration: _DURATION,
}


def scenario_schema() -> dict[str, Any]:
    """The scenario file as a JSON Schema."""
    top = _record_schema(Scenario)
    inner = {name: _record_schema(record) for record, name in RECORDS.items() if record is not Scenario}
    return {"$schema": SCHEMA_DIALECT, "title": "jobledger scenario file", **top, "$defs": inner}


def scenario_reference_markdown() -> str:
    """The reference page of the scenario file."""
    return "\n".join(_lines()) + "\n"


# --- the schema -----------------------------------------------------------------------------------------------


def _record_schema(record: type) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "description": _told(record)}
    schema["properties"] = {name.json: _property_schema(record, name) for name in names_of(record).values()}
    if required := [name.json for name in names_of(record).values() if name.required]:
        schema["required"] = required
    if record is Span:
        schema |= {"minProperties": 1, "maxProperties": 1}
    if record is NodeRule:
        schema["oneOf"] = [{"required": ["at"]}, {"required": ["meanTimeBetween"]}]
    if record is LaunchRule:
        schema["anyOf"] = [{"required": [name]} for name in MEANINGS[LaunchRule] if name == "duration" or name in _ENDINGS]
    return schema | {"additionalProperties": False}


_ENDINGS: Final = ("exitCode", "signal", "notStarted", "uploadFailure", "lost", "hangs", "silent", "ignoresStop")


def _property_schema(record: type, name: Name) -> dict[str, Any]:
    schema = _type_schema(_inner(name.type))
    if typing.get_origin(name.type) is tuple:
        many = {"type": "array", "items": schema}
        schema = {"anyOf": [many, schema]} if name.json in LISTS and record_in(name.type) is None else many
    elif bounds := _BOUNDS.get((record, name.json)):
        schema = {**schema, "minimum": bounds[0], "maximum": bounds[1]}
    elif name.json == "probability":
        schema = {**schema, "exclusiveMinimum": 0, "maximum": 1}
    return {"description": MEANINGS[record][name.json].replace("`", ""), **schema}


def _type_schema(kind: Any) -> dict[str, Any]:
    if kind is Span:
        return {"anyOf": [_DURATION, {"$ref": "#/$defs/span"}]}
    if kind in RECORDS:
        return {"$ref": f"#/$defs/{RECORDS[kind]}"}
    if typing.get_origin(kind) is Literal:
        return {"enum": list(typing.get_args(kind))}
    return _PLAIN[kind]


def _inner(kind: Any) -> Any:
    """What a field holds: `K` of `K`, `K | None` and `tuple[K, ...]`."""
    if typing.get_origin(kind) is tuple:
        return typing.get_args(kind)[0]
    arguments = typing.get_args(kind)
    return next(part for part in arguments if part is not type(None)) if type(None) in arguments else kind


# --- the page -------------------------------------------------------------------------------------------------


def _lines() -> Iterator[str]:
    yield "# The scenario file"
    yield ""
    yield "<!-- Made by `make docs` from the records; changes belong in src/jobledger/scenarioschema.py. -->"
    yield ""
    yield "A scenario file is YAML or JSON, and says what happens in a [dry run](../how-to/dry-run.md)."
    yield "A file with any mistake is refused as a whole, and every mistake is named with its path."
    yield "Durations are written as in [the job file](job-file.md): `PT90S`, `PT5M`, `P1D`; a list of one may be written without its brackets."
    yield "Editors can check and complete a scenario file with its [JSON Schema](scenario-file.schema.json)."
    for record, title in RECORDS.items():
        yield from ("", f"## {title}", "", _told(record), "", "| property | type | default | meaning |", "|---|---|---|---|")
        for name in names_of(record).values():
            yield f"| `{name.json}` | {_type_text(record, name)} | {_default_text(name)} | {MEANINGS[record][name.json]} |"
    yield from _usual_lines()


def _usual_lines() -> Iterator[str]:
    yield from ("", "## What nothing is said of", "")
    yield "Where neither a rule nor a recording tells how long something takes, it is drawn from these, and ends with exit code 0."
    yield from ("", "| kind | span |", "|---|---|")
    for kind, span in USUAL.items():
        yield f"| `{kind}` | {_span_text(span)} |"
    yield ""
    yield "A seed alone, without a scenario and a recording, draws from this scenario:"
    yield ""
    yield "```yaml"
    yield f"bootDuration: {{{_span_text(ORDINARY_TROUBLE.boot_duration, plain=True)}}}"
    for title, rules in (("launches", ORDINARY_TROUBLE.launches), ("nodes", ORDINARY_TROUBLE.nodes)):
        yield f"{title}:"
        for rule in rules:
            yield f"  - {{{', '.join(_said(rule))}}}"
    yield "```"


def _said(rule: LaunchRule | NodeRule) -> Iterator[str]:
    """What a rule says, as YAML; what is as it would be anyway is left out."""
    usual = unstructure(NodeRule(fault="reboot") if isinstance(rule, NodeRule) else LaunchRule())
    for key, value in unstructure(rule).items():
        if key == "fault" or usual.get(key) != value:
            yield f"{key}: {'[' + ', '.join(value) + ']' if isinstance(value, list) else value}"


def _span_text(span: Span, *, plain: bool = False) -> str:
    ((name, inner),) = unstructure(span).items()
    text = f"{name}: {{{', '.join(f'{key}: {value}' for key, value in inner.items())}}}"
    return text if plain else f"`{text}`"


def _type_text(record: type, name: Name) -> str:
    inner = _inner(name.type)
    if inner in RECORDS:
        text = f"[{RECORDS[inner]}](#{RECORDS[inner].lower()})"
    elif typing.get_origin(inner) is Literal:
        text = " or ".join(f"`{choice}`" for choice in typing.get_args(inner))
    else:
        text = {str: "text", int: "number", float: "number", bool: "`true` or `false`", Duration: "duration"}[inner]
    if bounds := _BOUNDS.get((record, name.json)):
        text += f" from {bounds[0]} to {bounds[1]}"
    return f"list of {text}" if typing.get_origin(name.type) is tuple else text


def _default_text(name: Name) -> str:
    default = name.field.default
    if name.required:
        return "*required*"
    if isinstance(default, Span):
        return "`PT0S`"
    if default is None or default == () or default == "":
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default:}`"


def _told(record: type) -> str:
    """All that the record's docstring says, on one line."""
    return " ".join((inspect.getdoc(record) or "").split())
