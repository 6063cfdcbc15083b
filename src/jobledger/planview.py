"""A plan for people and for programs: as a table, as JSON, and as a shell script.

What the JSON has is a contract, told in `docs/how-to/plan-and-compare.md`; what people see may change.
"""

import json
from collections.abc import Iterator
from typing import Any, Literal, assert_never

from .core.ids import SECOND, place_name
from .durations import for_people
from .eventstore import rfc3339
from .plan import NAMES, NodeUse, Plan, Row, TaskResult, offset
from .planscript import script
from .printing import columns

Form = Literal["table", "json", "sh"]

Json = dict[str, Any]


def render(plan: Plan, form: Form) -> str:
    """The plan in one of its forms, as text that ends with a newline."""
    match form:
        case "table":
            return "\n".join(table(plan)) + "\n"
        case "json":
            return json.dumps(document(plan), indent=2, ensure_ascii=False) + "\n"
        case "sh":
            return script(plan)
        case _:
            assert_never(form)


# --- for people -----------------------------------------------------------------------------------------------


def table(plan: Plan) -> Iterator[str]:
    """The job in a few lines, each execution in one, and each node in one."""
    yield from summary(plan)
    if plan.rows:
        yield ""
        header = ("start", "end", "took", "what", "task", "node", "attempt", "outcome", "waited", "command line")
        yield from columns(header, map(_line, plan.rows))
    if plan.nodes:
        yield ""
        yield from columns(("node", "slots", "tasks", "used", "available", "utilisation"), map(_node_line, plan.nodes))


def summary(plan: Plan) -> Iterator[str]:
    """What the plan is of, and its totals."""
    kind = f"a dry run: {plan.dry_run}" if plan.dry_run else "a real run"
    over = "" if plan.ended else "; it is not over, and all of this is as of the last event"
    yield f"job {plan.job} on pool {plan.pool} ({kind}), submitted {rfc3339(plan.submitted_at)}{over}"
    waits = plan.waits
    waited = f", tasks waited {for_people(waits[0])} on average and at most {for_people(waits[1])}" if waits is not None else ""
    yield f"makespan {for_people(plan.makespan)}, utilisation {percent(plan.utilisation)}, at most {plan.peak} tasks at a time{waited}"


def percent(part: float | None) -> str:
    """A part of 1 as `82.5%`; a hyphen where there is none."""
    return "-" if part is None else f"{part:.1%}"


def outcome_text(row: Row) -> str:
    """How an execution ended, in a word or two."""
    if row.outcome == "failed" and row.exit_code is not None:
        return f"failed, {f'signal {row.signal}' if row.signal is not None else f'exit {row.exit_code}'}" + (f" ({row.why})" if row.why else "")
    return row.outcome + (f" ({row.why})" if row.why else "")


def _line(row: Row) -> tuple[object, ...]:
    return (
        "-" if row.start is None else offset(row.start),
        "-" if row.end is None else offset(row.end),
        "-" if row.took is None else for_people(row.took),
        NAMES[row.kind],
        row.task,
        place_name(row.node),
        row.attempt,
        outcome_text(row),
        "" if row.waited is None else for_people(row.waited),
        row.what.command_line,
    )


def _node_line(node: NodeUse) -> tuple[object, ...]:
    used, available = (f"{amount / SECOND:.3f} slot s" for amount in (node.used, node.available))
    return (node.node, node.slots, node.tasks, used, available, percent(node.utilisation))


# --- for programs ---------------------------------------------------------------------------------------------


def document(plan: Plan) -> Json:
    """The plan as one JSON document.  What is absent is left out; times are in seconds from the job's submission."""
    return _present(
        {
            **totals(plan),
            "executions": [execution_view(row) for row in plan.rows],
            "nodes": [_node_view(node) for node in plan.nodes],
            "tasks": [result_view(plan.tasks[task]) | {"id": task} for task in plan.tasks],
        }
    )


def totals(plan: Plan) -> Json:
    """What the plan is of, and its totals."""
    waits = plan.waits
    return _present(
        {
            "job": plan.job,
            "pool": plan.pool,
            "ledger": plan.ledger,
            "dryRun": plan.dry_run or None,
            "submissionTime": rfc3339(plan.submitted_at),
            "ended": plan.ended,
            "makespanSeconds": seconds(plan.makespan),
            "usedSlotSeconds": seconds(plan.used),
            "availableSlotSeconds": seconds(plan.available),
            "utilisation": plan.utilisation,
            "peakParallelTasks": plan.peak,
            "meanWaitSeconds": None if waits is None else seconds(waits[0]),
            "longestWaitSeconds": None if waits is None else seconds(waits[1]),
        }
    )


def execution_view(row: Row) -> Json:
    """One execution."""
    return _present(
        {
            "kind": row.kind,
            "task": row.task,
            "node": row.node,
            "pool": row.pool,
            "attempt": row.attempt,
            "execution": row.execution,
            "slots": row.slots,
            "requestedSeconds": seconds(row.requested),
            "startSeconds": seconds(row.start),
            "endSeconds": seconds(row.end),
            "waitedSeconds": seconds(row.waited),
            "outcome": row.outcome,
            "exitCode": row.exit_code,
            "signal": row.signal,
            "reason": row.why or None,
            "commandLine": row.what.command_line,
        }
    )


def result_view(result: TaskResult) -> Json:
    """What became of a task."""
    return _present({"result": result.end, "exitCode": result.exit_code, "failureCode": result.failure})


def seconds(micros: int | None) -> float | None:
    """Microseconds in seconds."""
    return None if micros is None else micros / SECOND


def _node_view(node: NodeUse) -> Json:
    return _present(
        {
            "node": node.node,
            "pool": node.pool,
            "slots": node.slots,
            "tasks": node.tasks,
            "usedSlotSeconds": seconds(node.used),
            "availableSlotSeconds": seconds(node.available),
            "utilisation": node.utilisation,
        }
    )


def _present(view: Json) -> Json:
    return {name: value for name, value in view.items() if value is not None}
