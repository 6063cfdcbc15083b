"""The state machines as people and tools read them: Mermaid diagrams, tables and JSON, all made from `core.machines`.

Nothing is drawn by hand, so that nothing can drift.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from .core.machine import ABSENT, Machine
from .core.machines import MACHINES


def mermaid(machine: Machine) -> str:
    """The machine as a Mermaid `stateDiagram-v2`; events that lead the same way share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for row in machine.rows:
        arrows.setdefault((row.source, row.target), []).append(row.trigger)
    lines = ["stateDiagram-v2"]
    lines += [f'    state "{state}" as {_node(state)}' for state in machine.states if "-" in state]
    lines += [f"    {_node(source)} --> {_node(target)} : {', '.join(triggers)}" for (source, target), triggers in arrows.items()]
    lines += [f"    {_node(state)} --> [*]" for state in machine.finals]
    return "\n".join(lines) + "\n"


def as_json(machine: Machine) -> dict[str, Any]:
    """The machine as plain data.  `why` stands in a row that needs saying why it is legal."""
    return {
        "name": machine.name,
        "of": machine.of,
        "initial": ABSENT,
        "states": list(machine.states),
        "finals": list(machine.finals),
        "rows": [{"source": row.source, "event": row.trigger, "target": row.target} | ({"why": row.why} if row.why else {}) for row in machine.rows],
    }


def table(machine: Machine) -> str:
    """The machine's rows as an aligned table, which is Markdown as well."""
    return _table(("in state", "event", "leads to", "because"), [(row.source, row.trigger, row.target, row.why) for row in machine.rows])


def state_machines_markdown() -> str:
    """The reference page of all machines."""
    parts = [
        "# State machines",
        "",
        "Made from the tables in `core/` by `python -m jobledger.docsgen`; `jobledger machines` prints the same.",
        f"Every thing starts in `{ABSENT}`, which is never recorded.",
        "A row says that in this state this event leads to that state; what no row says is impossible.",
        "",
    ]
    for machine in MACHINES.values():
        parts += [f"## {machine.name}: {machine.of}", "", "```mermaid", mermaid(machine).rstrip("\n"), "```", "", table(machine)]
    return "\n".join(parts)


def _node(state: str) -> str:
    """The name of a state in a diagram, where a hyphen would begin an arrow."""
    return "[*]" if state == ABSENT else state.replace("-", "_")


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = [header, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines) + "\n"
