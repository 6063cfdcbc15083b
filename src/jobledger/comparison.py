"""Plan against fact: two ledgers' plans of one job, execution by execution.

1. It takes the first for what was planned and the second for what really happened; that one of them is a dry run is not insisted on.
2. Executions are paired by what they are, and not by their numbers: the first, second and so on launch of a task or of the finalizer,
   wherever it was, and of the start task, preparation or release of one node.
3. Only the ends of tasks tell whether both went the same way: times and nodes never do, and neither do tries.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from attrs import frozen

from .core.errors import RequestRefused
from .core.ids import Duration, JobId, TaskId
from .core.ports import EventStore
from .plan import Plan, Row, TaskResult, jobs_of

_Key = tuple[str, str, int]

_KINDS: Final = ("starttask", "preparation", "task", "release", "finalizer")


@frozen(kw_only=True)
class Pair:
    """An execution as it was planned and as it was; None where it is only in the other ledger."""

    planned: Row | None
    real: Row | None

    @property
    def row(self) -> Row:
        """The one that there is, the planned one if there are both."""
        found = self.planned or self.real
        assert found is not None  # noqa: S101 - a pair is made of a row
        return found

    @property
    def later(self) -> Duration | None:
        """How much later it really started than planned; less than 0 for earlier, None where one of both did not start."""
        if self.planned is None or self.real is None or self.planned.start is None or self.real.start is None:
            return None
        return Duration(self.real.start - self.planned.start)

    @property
    def longer(self) -> Duration | None:
        """How much longer it really took than planned; None where one of both did not start or has not ended."""
        if self.planned is None or self.real is None or self.planned.took is None or self.real.took is None:
            return None
        return Duration(self.real.took - self.planned.took)


@frozen(kw_only=True)
class Difference:
    """A task that ended differently; None where it is missing."""

    task: TaskId
    planned: TaskResult | None
    real: TaskResult | None


@frozen(kw_only=True)
class Comparison:
    """Both plans, their executions in pairs, in order of their planned start, and the tasks that ended differently."""

    planned: Plan
    real: Plan
    pairs: tuple[Pair, ...]
    differences: tuple[Difference, ...]

    @property
    def is_same(self) -> bool:
        """Whether every task ended the same way in both."""
        return not self.differences


def compare(planned: Plan, real: Plan) -> Comparison:
    """The comparison of two plans."""
    ours, theirs = _by_key(planned.rows), _by_key(real.rows)
    pairs = [Pair(planned=ours.get(key), real=theirs.get(key)) for key in ours.keys() | theirs.keys()]
    tasks = dict.fromkeys([*planned.tasks, *real.tasks])
    differences = [Difference(task=task, planned=planned.tasks.get(task), real=real.tasks.get(task)) for task in tasks]
    return Comparison(
        planned=planned,
        real=real,
        pairs=tuple(sorted(pairs, key=_order)),
        differences=tuple(one for one in differences if one.planned != one.real),
    )


def job_in_both(planned: EventStore, real: EventStore) -> JobId:
    """The one job that both ledgers tell of.  Refused: JobNotFound where there is none, InvalidInput where there are several."""
    ours, theirs = jobs_of(planned), jobs_of(real)
    both = [job for job in ours if job in theirs]
    if not both:
        raise RequestRefused("JobNotFound", f"the ledgers have no job in common: {_listed(ours)} in the first, {_listed(theirs)} in the second")
    if len(both) > 1:
        raise RequestRefused("InvalidInput", f"both ledgers have the jobs {', '.join(both)}: say which with --job")
    return both[0]


def _listed(jobs: list[JobId]) -> str:
    return ", ".join(jobs) or "none"


def _by_key(rows: Iterable[Row]) -> dict[_Key, Row]:
    """Rows by their kind, by what they are of, and by how many of it there were before."""
    seen = Counter[tuple[str, str]]()
    found: dict[_Key, Row] = {}
    for row in sorted(rows, key=lambda row: row.execution):
        of = {"task": row.task, "finalizer": ""}.get(row.kind, row.node)
        found[row.kind, of, seen[row.kind, of]] = row
        seen[row.kind, of] += 1
    return found


def _order(pair: Pair) -> tuple[int, int, str, str, int]:
    row = pair.row
    return (row.began, _KINDS.index(row.kind), row.node, row.task, row.execution)
