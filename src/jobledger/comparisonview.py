"""A comparison of plan and fact for people and for programs.

What the JSON has is a contract, told in `docs/how-to/plan-and-compare.md`; what people see may change.
"""

from collections.abc import Iterator
from typing import Any

from .comparison import Comparison, Difference, Pair
from .core.ids import Duration, place_name
from .durations import for_people
from .plan import NAMES, Plan, Row, TaskResult, offset
from .planview import Json, execution_view, outcome_text, percent, result_view, seconds, totals
from .printing import columns, printable


def table(comparison: Comparison) -> Iterator[str]:
    """A line for each pair of executions, the totals of both, and at the end whether the tasks ended the same way."""
    if comparison.pairs:
        header = ("what", "task", "try", "node", "start", "really", "later by", "took", "really", "longer by", "outcome")
        yield from columns(header, map(_line, comparison.pairs))
        yield ""
    yield from columns(
        ("", "ledger", "makespan", "utilisation", "at a time", "executions", "only here"),
        [_totals_line("planned", comparison.planned, _only_planned(comparison)), _totals_line("real", comparison.real, _only_real(comparison))],
    )
    yield ""
    for difference in comparison.differences:
        yield printable(f"{difference.task}: planned {_result_text(difference.planned)}, really {_result_text(difference.real)}")
    yield summary(comparison)


def summary(comparison: Comparison) -> str:
    """One line: whether the tasks ended the same way, and how much longer it all took."""
    planned, real = comparison.planned.makespan, comparison.real.makespan
    times = f"it took {for_people(real)}, planned were {for_people(planned)}" + (f" ({real / planned - 1:+.1%})" if planned else "")
    number = len(comparison.planned.tasks.keys() | comparison.real.tasks.keys())
    if comparison.is_same:
        return f"the same: every one of {number} tasks ended as planned; {times}"
    return f"different: {len(comparison.differences)} of {number} tasks ended differently or are missing; {times}"


def document(comparison: Comparison) -> Json:
    """The comparison as one JSON document."""
    return {
        "job": comparison.planned.job,
        "same": comparison.is_same,
        "planned": totals(comparison.planned),
        "real": totals(comparison.real),
        "executions": [_pair_view(pair) for pair in comparison.pairs],
        "onlyPlanned": _only_planned(comparison),
        "onlyReal": _only_real(comparison),
        "differences": [_difference_view(difference) for difference in comparison.differences],
    }


# --- for people -----------------------------------------------------------------------------------------------


def _line(pair: Pair) -> tuple[object, ...]:
    row = pair.row
    return (
        NAMES[row.kind],
        row.task,
        row.attempt,
        _both(pair, lambda row: place_name(row.node)),
        _start(pair.planned),
        _start(pair.real),
        _signed(pair.later),
        _took(pair.planned),
        _took(pair.real),
        _signed(pair.longer),
        _both(pair, outcome_text) + _missing(pair),
    )


def _both(pair: Pair, text: Any) -> str:
    """What both say: once if they agree, else with an arrow from the planned to the real."""
    told = dict.fromkeys(text(row) for row in (pair.planned, pair.real) if row is not None)
    return " -> ".join(told)


def _missing(pair: Pair) -> str:
    return " (only planned)" if pair.real is None else " (only real)" if pair.planned is None else ""


def _start(row: Row | None) -> str:
    return "-" if row is None or row.start is None else offset(row.start)


def _took(row: Row | None) -> str:
    return "-" if row is None or row.took is None else for_people(row.took)


def _signed(difference: Duration | None) -> str:
    return "-" if difference is None else offset(difference)


def _totals_line(name: str, plan: Plan, only: int) -> tuple[object, ...]:
    kind = f"{plan.ledger}, a dry run: {plan.dry_run}" if plan.dry_run else f"{plan.ledger}, a real run"
    over = "" if plan.ended else " so far"
    return (name, kind, for_people(plan.makespan) + over, percent(plan.utilisation), plan.peak, len(plan.rows), only)


def _result_text(result: TaskResult | None) -> str:
    if result is None:
        return "missing"
    code = f", exit {result.exit_code}" if result.exit_code is not None and result.end == "failed" else ""
    return result.end + code + (f" ({result.failure})" if result.failure is not None else "")


# --- for programs ---------------------------------------------------------------------------------------------


def _pair_view(pair: Pair) -> Json:
    row = pair.row
    view: Json = {"kind": row.kind, "task": row.task, "attempt": row.attempt}
    view |= {name: execution_view(found) for name, found in (("planned", pair.planned), ("real", pair.real)) if found is not None}
    view |= {"startDifferenceSeconds": seconds(pair.later)} if pair.later is not None else {}
    return view | ({"durationDifferenceSeconds": seconds(pair.longer)} if pair.longer is not None else {})


def _difference_view(difference: Difference) -> Json:
    ends = (("planned", difference.planned), ("real", difference.real))
    return {"task": difference.task} | {name: result_view(end) for name, end in ends if end is not None}


def _only_planned(comparison: Comparison) -> int:
    return sum(pair.real is None for pair in comparison.pairs)


def _only_real(comparison: Comparison) -> int:
    return sum(pair.planned is None for pair in comparison.pairs)
