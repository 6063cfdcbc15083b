"""The reference pages that are made from code: every event, and every command of the command line."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any, Final

import attrs
import click

import jobledger

from .asks import Asks, Session
from .cli import main
from .core.events import STORED, Event
from .core.machines import MACHINES
from .modeldata import fields_of, prose_of

_VALUES: Final[dict[type, str]] = {click.Path: "PATH", click.IntRange: "N", click.FloatRange: "SECONDS"}


def events_markdown() -> str:
    """The page of all events, in the order in which the code lists them."""
    parts = [
        "# Events",
        "",
        "Made from `core/events.py` and the state machines by `python -m jobledger.docsgen`.",
        "A stored name and its version are a promise to every ledger ever written.",
        "Every event is read by one stream: `job/<id>` where it names a job, else `node/<id>`, `pool/<id>` or `engine`.",
        "What surrounds an event (position, time, cause, actor, hash) is the same for all; `jobledger events --json` shows it.",
        "",
        "A type such as `failureInfo` or `jobSpec` is the record of that name, with Azure Batch's fields in snake_case.",
        "",
    ]
    for event, (name, version) in STORED.items():
        parts += [f"## {name}", "", f"Version {version}.", *prose_of(event).splitlines(), "", *_fields(event), *_moves(event), ""]
    return "\n".join(parts).rstrip("\n") + "\n"


def cli_markdown() -> str:
    """The page of all commands.  It is put together here, because the layout of `--help` differs between versions of click."""
    parts = ["# Command line", "", "Made from the commands themselves by `python -m jobledger.docsgen`; `--help` says the same.", ""]
    parts += _help(main)
    for name, command in all_commands(main):
        arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
        options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
        words = [*(["COMMAND ..."] if isinstance(command, click.Group) else []), *(["[OPTIONS]"] if options else []), *map(_argument, arguments)]
        usage = " ".join(["jobledger", name, *words])
        parts += [f"## {name}", "", f"`{usage}`", "", *_help(command)]
        parts += [*map(_option, options), ""] if options else []
    return "\n".join(parts).rstrip("\n") + "\n"


def all_commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name, families before their members."""
    for name in sorted(group.commands):
        command = group.commands[name]
        yield f"{before}{name}", command
        if isinstance(command, click.Group):
            yield from all_commands(command, f"{before}{name} ")


# --- commands -------------------------------------------------------------------------------------------------


def _help(command: click.Command) -> Iterator[str]:
    """A command's help, of which what click is told not to rewrap is an example."""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b\n"):
            yield from ("```text", textwrap.dedent(paragraph.removeprefix("\b\n")), "```", "")
        else:
            yield from (paragraph, "")


def _argument(argument: click.Argument) -> str:
    name = "|".join(argument.type.choices) if isinstance(argument.type, click.Choice) else (argument.name or "").upper()
    return name if argument.required else f"[{name}]"


def _option(option: click.Option) -> str:
    if option.is_flag:
        value = ""
    elif isinstance(option.type, click.Choice):
        value = " " + "|".join(option.type.choices)
    else:
        value = f" {_VALUES.get(type(option.type), 'TEXT')}"
    notes = [f"default `{option.default}`"] if option.show_default else []
    notes += [f"environment `{option.envvar}`"] if option.envvar is not None else []
    notes += ["required"] if option.required else []
    return f"- `{', '.join(option.opts)}{value}`: {option.help}" + (f" ({'; '.join(notes)})" if notes else "")


# --- events ---------------------------------------------------------------------------------------------------


def _fields(event: type[Event]) -> Iterator[str]:
    for name, kind, _ in fields_of(event):
        yield f"- `{name}`: {kind}"


def _moves(event: type[Event]) -> Iterator[str]:
    """Which rows of which machines the event takes, after an empty line."""
    sentences = []
    for machine in MACHINES.values():
        found = [row for row in machine.rows if row.event is event]
        for target in dict.fromkeys(row.target for row in found if row.source != row.target):
            sources = " or ".join(row.source for row in found if row.target == target != row.source)
            sentences.append(f"Moves the {machine.name} from {sources} to {target}.")
        if stays := [row.source for row in found if row.source == row.target]:
            sentences.append(f"Leaves the {machine.name} as it is: {' or '.join(stays)}.")
    if sentences:
        yield from ("", *sentences)


def api_markdown() -> str:
    """The page of the public API: everything that `jobledger` exports, and nothing else."""
    parts = [
        "# Python API",
        "",
        "Made from `jobledger.__all__` by `python -m jobledger.docsgen`.",
        "Everything else is internal but for `jobledger.core` (the records, ports and rules, for authors of executors, stores and tools) and `jobledger.testing`.",
        "",
    ]
    for name in jobledger.__all__:
        thing = getattr(jobledger, name)
        prose = [*(inspect.getdoc(thing) or "").splitlines(), ""] if inspect.isclass(thing) or inspect.isfunction(thing) else []
        parts += [f"## {name}", "", *_declaration(name, thing), *prose, *_methods(thing)]
    return "\n".join(parts).rstrip("\n") + "\n"


def _declaration(name: str, thing: Any) -> list[str]:
    """How it is called or built, as the code has it."""
    if not inspect.isclass(thing):
        return (
            ["```python", f"{name}{_signature(thing)}", "```", ""]
            if inspect.isfunction(thing)
            else [f"A name for `{thing.__supertype__.__name__}`.", ""]
        )
    if issubclass(thing, BaseException):
        return [f"Error, a kind of `{thing.__mro__[1].__name__}`.", ""]
    if attrs.has(thing):
        body = [part for part in _source(thing).body if isinstance(part, ast.AnnAssign)]
        return ["```python", f"{name}(", *(f"    {ast.unparse(part)}," for part in body), ")", "```", ""]
    made_by_a_class_method = (inspect.getdoc(thing.__init__) or "").startswith("Use ")
    if made_by_a_class_method or getattr(thing, "_is_protocol", False) or "__init__" not in vars(thing):
        return []
    return ["```python", f"{name}{_signature(thing.__init__)}", "```", ""]


def _methods(thing: Any) -> list[str]:
    """The public methods and properties of a class that is more than a record, with those of our own classes that it is made of."""
    if not inspect.isclass(thing) or attrs.has(thing) or issubclass(thing, BaseException):
        return []
    lines = []
    ours = [base for base in thing.__mro__ if base in {thing, Asks, Session}]
    members = {name: member for base in ours for name, member in vars(base).items() if base is thing or name not in vars(thing)}
    for name, member in members.items():
        function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if name.startswith("_"):
            continue
        if isinstance(function, property):
            lines.append(f"* `{name}`" + _first_line(function))
        elif inspect.isfunction(function):
            lines.append(f"* `{name}{_signature(function)}`" + _first_line(function))
    return [*lines, ""] if lines else []


def _signature(function: Any) -> str:
    """Parameters and result in the code's own words, which do not change with the version of Python."""
    node = _source(function)
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)  # noqa: S101 - the source of a function is one
    node.args.args = [argument for argument in node.args.args if argument.arg not in {"self", "cls"}]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None and not isinstance(node.returns, ast.Constant) else ""
    return f"({ast.unparse(node.args)}){returns}"


def _source(thing: Any) -> Any:
    return ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]


def _first_line(thing: Any) -> str:
    text = (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")
    return f": {text}" if text else ""
