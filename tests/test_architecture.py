"""The shape of the sources: who may import whom, what the core may not touch, how long a file may be.

Each rule that a reader is told in the documents and that a tool can see is held here.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

TOP = Path(__file__).parents[1]

CORE_LIBRARY = {"__future__", "bisect", "collections", "enum", "functools", "heapq", "itertools", "math", "operator", "re", "shlex", "typing"}
"""Standard modules that do nothing but compute; `shlex` splits command lines."""

THIRD_PARTIES = {
    "core": {"attrs"},
    "eventstore": {"attrs", "cattrs", "msgspec", "sqlite_utils"},
    "executors": {"attrs", "msgspec", "psutil"},
}
"""What each folder may import of other projects; the shell may import whatever is a dependency."""

DECLARATION = "core/machine.py"
"""The one module of the core that may know `transitions`: it turns the tables into that library's form."""

OPTIONAL = {"executors/sources.py": "fsspec"}
"""Modules that import an optional dependency, where an address needs it."""

NOT_IN_CORE = {"open", "print", "input", "eval", "exec", "compile", "__import__", "breakpoint", "globals", "locals"}
"""Builtins that reach outside a pure function."""

CATCH_ALLS = {"src/jobledger/engine.py": "whatever ends the engine's task is kept, and raised to whoever waits for the engine"}
"""Files that may catch every exception, in one place each, with the reason."""

LINES_MAX = 600
LONGER = {"core/events.py": "a closed set of records has one reason to change, and is read as one list"}
"""Files that may be longer, each with the reason; CONTRIBUTING.md lists them too."""


class Source(NamedTuple):
    """One module of ours."""

    path: str
    module: str
    tree: ast.Module
    lines: int

    @property
    def folder(self) -> str:
        return self.path.split("/")[0]


def read_source(path: Path) -> Source:
    name = path.relative_to(TOP).as_posix()
    parts = name.removesuffix(".py").removeprefix("src/").split("/")
    module = ".".join(parts if name.startswith("src/") else ["jobledger", *parts])
    text = path.read_text(encoding="utf-8")
    return Source(name, module, ast.parse(text), text.count("\n"))


def read_sources() -> list[Source]:
    paths = [path for folder in ("core", "eventstore", "executors") for path in (TOP / folder).rglob("*.py")]
    links = [TOP / "src" / "jobledger" / folder for folder in ("core", "eventstore", "executors")]
    paths += [path for path in (TOP / "src").rglob("*.py") if not any(path.is_relative_to(link) for link in links)]
    return [read_source(path) for path in sorted(paths)]


SOURCES = read_sources()
INNER = [source for source in SOURCES if source.folder in THIRD_PARTIES]
CORE = [source for source in SOURCES if source.folder == "core"]


def by_path(source: Source) -> str:
    return source.path


def imports(source: Source) -> Iterator[tuple[int, bool, str]]:
    """Every import of a module: its line, whether it is relative, and the full name of what is imported from."""
    package = source.module if source.path.endswith("/__init__.py") else source.module.rpartition(".")[0]
    package = package.removesuffix(".__init__")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, False, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            start = [*base, *([node.module] if node.module else [])]
            for alias in node.names:
                yield node.lineno, node.level > 0, ".".join([*start, alias.name] if node.module is None else start)


def is_inside(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def import_faults(source: Source) -> list[str]:
    """Every import that a module of core, eventstore or executors may not have, as `line: name`."""
    own = [f"jobledger.{source.folder}", "jobledger.core"]
    faults = []
    for line, is_relative, name in imports(source):
        first = name.split(".")[0]
        if is_relative:
            is_allowed = any(is_inside(name, package) for package in own)
        elif source.folder == "core":
            is_allowed = first in CORE_LIBRARY | THIRD_PARTIES["core"] or (first == "transitions" and source.path == DECLARATION)
        else:
            is_allowed = first in sys.stdlib_module_names | THIRD_PARTIES[source.folder] or first == OPTIONAL.get(source.path)
        if not is_allowed:
            faults.append(f"{line}: {name}")
    return faults


def catch_alls(source: Source) -> list[int]:
    """Lines that catch whatever comes and go on: a handler that ends by raising again only tidies up, and is none."""
    every = {"Exception", "BaseException"}
    lines = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler):
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            is_open = any(kind is None or (isinstance(kind, ast.Name) and kind.id in every) for kind in caught)
            if is_open and not isinstance(node.body[-1], ast.Raise):
                lines.append(node.lineno)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            lines += [node.lineno for argument in node.args if ast.unparse(argument) in every]
    return lines


def calls(source: Source, names: set[str]) -> list[str]:
    return [
        f"{node.lineno}: {node.func.id}()"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names
    ]


@pytest.mark.parametrize("source", INNER, ids=by_path)
def test_the_inner_folders_import_the_core_and_little_else(source: Source) -> None:
    assert import_faults(source) == []


@pytest.mark.parametrize("source", CORE, ids=by_path)
def test_the_core_reaches_for_nothing_outside(source: Source) -> None:
    assert calls(source, NOT_IN_CORE) == []
    assert [node.lineno for node in ast.walk(source.tree) if isinstance(node, ast.Await | ast.Global)] == []


@pytest.mark.parametrize("source", SOURCES, ids=by_path)
def test_no_unknown_exception_is_swallowed(source: Source) -> None:
    assert len(catch_alls(source)) == (source.path in CATCH_ALLS), f"at lines {catch_alls(source)}"


@pytest.mark.parametrize("source", SOURCES, ids=by_path)
def test_every_module_says_what_it_is(source: Source) -> None:
    assert ast.get_docstring(source.tree)


def test_no_file_is_longer_than_a_sitting() -> None:
    too_long = {source.path: source.lines for source in SOURCES if source.lines > LINES_MAX}
    assert {path: lines for path, lines in too_long.items() if path not in LONGER} == {}, f"split them, each has more than {LINES_MAX} lines"
    assert set(LONGER) == set(too_long), "an exception that is needed no more"


def test_the_known_exceptions_are_written_down() -> None:
    text = (TOP / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert [path for path in [*LONGER, *CATCH_ALLS] if f"`{path}`" not in text] == []


# --- the rules above can fail ---------------------------------------------------------------------------------


def planted(path: str, text: str) -> Source:
    return Source(path, "jobledger." + path.removesuffix(".py").replace("/", "."), ast.parse(text), text.count("\n"))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("core/job.py", "import os"),
        ("core/job.py", "from time import time"),
        ("core/job.py", "import transitions"),
        ("core/job.py", "from ..eventstore import memory"),
        ("core/job.py", "from .. import jobfile"),
        ("core/job.py", "import jobledger.core.ids"),
        ("core/job.py", "def late() -> None:\n    import random"),
        ("eventstore/memory.py", "from ..executors import local"),
        ("eventstore/memory.py", "from jobledger.core import ids"),
        ("eventstore/memory.py", "import click"),
        ("executors/local.py", "from ..eventstore.codec import decode"),
        ("executors/local.py", "import sqlite_utils"),
    ],
)
def test_a_planted_import_is_found(path: str, text: str) -> None:
    assert len(import_faults(planted(path, text))) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("core/machine.py", "import transitions\nfrom . import ids\nfrom .ids import JobId"),
        ("core/job.py", "from collections.abc import Iterator\nfrom attrs import frozen"),
        ("eventstore/memory.py", "import threading\nimport msgspec\nfrom ..core import ids\nfrom ..core.ids import JobId\nfrom . import chain"),
        ("executors/local.py", "import psutil\nfrom ..core.ports import Executor"),
    ],
)
def test_an_import_in_its_place_is_none_of_them(path: str, text: str) -> None:
    assert import_faults(planted(path, text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "try: pass\nexcept: pass",
        "try: pass\nexcept Exception: log()",
        "try: pass\nexcept (ValueError, BaseException) as error: print(error)",
        "with contextlib.suppress(Exception): pass",
    ],
)
def test_a_planted_catch_all_is_found(text: str) -> None:
    assert len(catch_alls(planted("core/job.py", text))) == 1


def test_a_handler_that_raises_again_is_no_catch_all() -> None:
    assert catch_alls(planted("core/job.py", "try: pass\nexcept BaseException:\n    rollback()\n    raise")) == []


def test_a_planted_call_is_found() -> None:
    assert calls(planted("core/job.py", "open('x')"), NOT_IN_CORE) == ["1: open()"]
