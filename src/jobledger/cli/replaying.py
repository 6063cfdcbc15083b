"""`replay`: the story of a ledger, told event by event under all judges.

Its exit status is its own, since a damaged ledger is an answer here: 0 clean, 1 findings, 2 the file cannot be read as a ledger.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import attrs
import click

from ..core.errors import LedgerCorrupt, LedgerTooNew, StoreError
from ..core.invariants import INVARIANTS
from ..eventstore import event_as_json
from ..printing import printable
from ..retelling import FOLD, Finding, Move, Told, retell
from . import render
from .common import ENDED_OTHERWISE, counted, json_option, opened, show_error
from .complete import job_ids, node_ids

UNREADABLE: Final = 2

_INDENT: Final = " " * 9


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--job", help="Tell only of events of this job.", shell_complete=job_ids)
@click.option("--node", help="Tell only of events that name this node.", shell_complete=node_ids)
@json_option
def replay(file: Path, job: str | None, node: str | None, as_json: bool) -> None:
    """Tell the story of a ledger event by event, and judge it by all rules.

    For each event: its position, time, what happened, which states it moved, and which rules it breaks.  At the end: clean, or every
    finding with its position, the thing concerned, the invariant and its sentence.  All of the ledger is judged whatever is told.
    With --json one object a line: events as `jobledger events --json` has them, with moves and findings, and at the end a summary.

    An event that cannot be, because no table allows it, is a finding; what follows is judged by the events alone.

    Exit status: 0 clean, 1 findings, 2 the file is no ledger, is damaged, or is of a newer version.

    \b
      jobledger replay .jobledger/ledger.db
      jobledger replay failing.db --job j --node p-1
    """
    try:
        with opened(file) as store:
            findings, told, damage = _tell(retell(store), job, node, as_json=as_json)
    except (StoreError, LedgerCorrupt, LedgerTooNew) as error:
        show_error(error, as_json=as_json)
        sys.exit(UNREADABLE)
    if as_json:
        summary: dict[str, Any] = {"clean": not findings and damage is None, "events": told, "invariants": len(INVARIANTS)}
        click.echo(json.dumps({"summary": summary | {"findings": [_finding_view(one) for one in findings]}}, ensure_ascii=False))
    else:
        for line in _end(findings, told, is_whole=damage is None):
            click.echo(line)
    if damage is not None:
        show_error(damage, as_json=as_json)
        sys.exit(UNREADABLE)
    sys.exit(ENDED_OTHERWISE if findings else 0)


def _tell(story: Iterator[Told], job: str | None, node: str | None, *, as_json: bool) -> tuple[list[Finding], int, LedgerCorrupt | None]:
    """Print the story as it is read: all findings, how many events there were, and what is wrong with the log behind them, if anything."""
    findings: list[Finding] = []
    number = 0
    try:
        for told in story:
            number += 1
            findings += told.findings
            event = told.recorded.event
            if (job is None or getattr(event, "job", None) == job) and (node is None or getattr(event, "node", None) == node):
                for line in _lines(told, as_json=as_json):
                    click.echo(line)
    except LedgerCorrupt as damage:
        return findings, number, damage
    return findings, number, None


def _lines(told: Told, *, as_json: bool) -> Iterator[str]:
    """An event, its moves and what is wrong with it."""
    if as_json:
        views = {"moves": [_move_view(move) for move in told.moves], "findings": [_finding_view(one) for one in told.findings]}
        yield json.dumps(event_as_json(told.recorded) | views, ensure_ascii=False)
        return
    made = ", ".join(f"{move.machine} {move.source} -> {move.target}" for move in told.moves)
    yield render.event_line(told.recorded) + (f"  [{made}]" if made else "")
    for finding in told.findings:
        yield f"{_INDENT}!! {printable(f'{finding.invariant}: {finding.text}')}"
        if finding.invariant == FOLD:
            yield f"{_INDENT}   from here on what happens is judged by the events alone"


def _end(findings: list[Finding], told: int, *, is_whole: bool) -> Iterator[str]:
    """The verdict, and every finding in full."""
    yield ""
    judged = f"{counted(told, 'event')}, {len(INVARIANTS)} invariants"
    if not findings:
        yield f"clean: {judged}" if is_whole else f"clean as far as it can be read: {judged}"
        return
    yield f"{counted(len(findings), 'finding')}: {judged}"
    for finding in findings:
        yield f"  position {finding.position}, {printable(finding.entity)}: {finding.invariant}"
        yield f"    {printable(finding.text)}"
        yield f"    ({finding.sentence})"


def _move_view(move: Move) -> dict[str, Any]:
    return {"machine": move.machine, "entity": move.entity, "from": move.source, "to": move.target}


def _finding_view(finding: Finding) -> dict[str, Any]:
    view: dict[str, Any] = attrs.asdict(finding)
    return view | {"sentence": finding.sentence}
