"""The page "What is guaranteed": every invariant with its sentence, where it comes from, and the planted bug that shows it can fail.

It is made where the repository is, since the planted bugs are in `property_tests/` and not in the package.
"""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from .core.events import STORED
from .core.invariants import INVARIANTS, Invariant

_BY_HAND: Final = {"positions_have_no_gaps": "a gap in the positions"}
"""What is planted without a script: it is the envelope of an event that is wrong, and not the event."""

_CUSTOMERS: Final = {
    "release_only_within_its_scope": "test_release_runs_only_where_a_task_ran",
    "release_never_after_completion": "test_delete_after_terminate_does_not_rerun_release",
}
"""Invariants that are held once more against what a model of an executor really ran, without the ledger and the rules."""

_AREAS: Final = {
    "jobs": "Jobs, tasks, preparations and releases",
    "ends": "Ends of tasks and what follows from them",
    "finalizers": "Finalizers",
    "nodes": "Nodes, executions, and everything that has a state machine",
    "drains": "Options of requests about nodes",
    "limits": "Limits",
    "placement": "Placement",
    "files": "Folders",
}
"""Headings, by the module `core/promises_of_...` that an invariant is in."""

_INTRODUCTION: Final = """\
# What is guaranteed

Made from `core/promises_of_*.py` and `property_tests/planted_*.py` by `python -m jobledger.docsgen`.

Each of the {count} invariants below holds after every event of every ledger.
They are judged by code that shares nothing with the rules that decide: it reads events alone (and, where one says so, the world after them).

* **Held while walking:** `property_tests/test_walks.py` asks all of them after every step of thousands of random walks, through every row of every state machine, with crashes, lost nodes, late and repeated reports.
* **Held exhaustively:** `make verify` asks all of them in every state that small worlds can reach ([Exhaustive small worlds](../explanation/exhaustive-worlds.md)).
* **Able to fail:** for each there is a bug that, planted in the rules or in the record, makes exactly this invariant object; `property_tests/test_planted.py` plants one after the other, and walks come upon them by themselves.
* **On your ledgers:** `jobledger replay LEDGER` asks all of them of what really happened; [the verification kit](../how-to/verify-with-the-kit.md) asks them of your executor, store or placement policy.

`jobledger machines --format json` has the same names and sentences as data, with the tables and the events that they speak of.
What no ledger can prove is said in [What the ledger proves](../explanation/what-the-ledger-proves.md).
"""


_KIT: Final = """\
## What is found in executors, stores, policies and engines

The verification kit is able to fail too: each of these bugs is planted in a part that it drives, and found by the check whose words stand beside it (`property_tests/test_planted_kit.py`).

| planted bug | found by |
|---|---|
"""


def guarantees_markdown() -> str:
    """The page.  Raises ImportError where this is not a repository but an installed package."""
    planted = _planted()
    parts = [_INTRODUCTION.format(count=len(INVARIANTS))]
    area = ""
    for one in INVARIANTS:
        if (module := one.judge.__module__.rpartition("_")[2]) != area:
            area = module
            parts += [f"## {_AREAS[area]}", ""]
        parts += [f"### {one.name}", "", one.sentence, "", *_facts(one, planted), ""]
    rows = [
        f"| {bug.name} | {' or '.join(f'`{words}`' for words in bug.found_by.split('|'))} |" for bug in _catalogue("planted_kit", "KIT_CATALOGUE")
    ]
    return "\n".join([*parts, _KIT + "\n".join(rows)]).rstrip("\n") + "\n"


def _planted() -> dict[str, list[str]]:
    """Names of the bugs that each invariant catches."""
    found: dict[str, list[str]] = {one: [name] for one, name in _BY_HAND.items()}
    for bug in _catalogue("planted", "CATALOGUE"):
        found.setdefault(bug.caught_by, []).append(bug.name)
    return found


def _catalogue(module: str, name: str) -> list[Any]:
    """A list of planted bugs, from the repository's `property_tests`."""
    folder = str(Path(__file__).resolve().parents[2] / "property_tests")
    sys.path.insert(0, folder)
    try:
        found: list[Any] = getattr(import_module(module), name)
    finally:
        sys.path.remove(folder)
    return found


def _facts(one: Invariant, planted: dict[str, list[str]]) -> Iterator[str]:
    yield f"* From: {one.rule}."
    yield "* Judged at: " + ", ".join(f"`{STORED[event][0]}`" for event in one.on) + "."
    tests = ["`test_walks.py`"]
    if (test := _CUSTOMERS.get(one.name)) is not None:
        tests.append(f"`test_customer_invariants.py::{test}`")
    yield f"* Held by: {', '.join(tests)}."
    yield "* Seen to fail when planted: " + "; ".join(f"*{name}*" for name in planted[one.name]) + "."
