"""What programs themselves wrote down, held against what a ledger tells of them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from attrs import frozen

from jobledger.core import events as e
from jobledger.core.ids import ExecutionId, JobId, NodeId


@frozen(kw_only=True)
class Ran:
    """A program started (`code` None), or ended by itself with a code."""

    execution: ExecutionId
    code: int | None = None


def read_ran(path: Path) -> Sequence[Ran]:
    """What a file has, whose lines are `start EXECUTION` and `end EXECUTION CODE`; EXECUTION as in the variable JOBLEDGER_EXECUTION."""
    ran = []
    for line in path.read_text().splitlines() if path.exists() else []:
        what, name, *code = line.split()
        number = ExecutionId(int(name.rpartition(".")[2]))
        ran.append(Ran(execution=number, code=int(code[0]) if what == "end" else None))
    return ran


def contradictions(events: Iterable[e.Event], ran: Sequence[Ran]) -> list[str]:
    """Where a ledger tells something else than what programs did, in order; nothing where all is well.

    Each execution starts at most once, and only one that was recorded; an end that is recorded was seen, with its code; what is recorded as never
    run did not run; a release runs only where a task of its job ran or may have run, and no task of a job starts after one of its releases.
    """
    told = _Told(events)
    faults: list[str] = []
    started: set[ExecutionId] = set()
    ended: dict[ExecutionId, int] = {}
    tasks: set[tuple[JobId | None, int, NodeId]] = set(told.doubtful)
    releases: set[tuple[JobId | None, int]] = set()
    for one in ran:
        requested, life = told.requested.get(one.execution), told.lives.get(one.execution, 0)
        if one.code is not None:
            ended[one.execution] = one.code
        elif requested is None:
            faults.append(f"execution {one.execution} ran, and the ledger knows of none")
        elif one.execution in started:
            faults.append(f"execution {one.execution} was started twice")
        elif requested.kind == "task":
            tasks.add((requested.job, life, requested.node))
            if (requested.job, life) in releases:
                faults.append(f"task {requested.task} of job {requested.job} was started after a release of its job")
        elif requested.kind == "release":
            releases.add((requested.job, life))
            if told.scopes.get(one.execution) == "taskRan" and (requested.job, life, requested.node) not in tasks:
                faults.append(f"the release of job {requested.job} ran on {requested.node}, where no task of it ran")
        started.add(one.execution)
    for execution, code in told.ends.items():
        if ended.get(execution) != code:
            faults.append(f"the ledger says that execution {execution} exited with {code}, and its program says {ended.get(execution, 'nothing')}")
    faults += [f"the ledger says that execution {execution} never ran, and it did" for execution in told.never & started]
    return faults


class _Told:
    """What a ledger tells of executions."""

    def __init__(self, events: Iterable[e.Event]) -> None:
        self.requested: dict[ExecutionId, e.ExecutionRequested] = {}
        self.lives: dict[ExecutionId, int] = {}
        """Which of the jobs that had the same id, one after the other, an execution is of."""
        self.ends: dict[ExecutionId, int] = {}
        """Codes of those that ended by themselves."""
        self.never: set[ExecutionId] = set()
        self.doubtful: set[tuple[JobId | None, int, NodeId]] = set()
        """Jobs and nodes with a task that was lost, or stopped before it could write anything down."""
        self.scopes: dict[ExecutionId, str] = {}
        jobs: dict[JobId | None, tuple[int, str]] = {}
        for event in events:
            match event:
                case e.JobCreated(job=job, spec=spec):
                    release = spec.job_release_task
                    jobs[job] = (jobs.get(job, (0, ""))[0] + 1, release.release_scope if release is not None else "")
                case e.ExecutionRequested(execution=execution, job=of):
                    self.requested[execution] = event
                    self.lives[execution], self.scopes[execution] = jobs.get(of, (0, ""))
                case e.ExecutionEnded(execution=execution, stopped=False):
                    self.ends[execution] = event.exit_code
                case e.ExecutionNeverRan(execution=execution):
                    self.never.add(execution)
                case e.ExecutionUnresolved(execution=execution) | e.ExecutionEnded(execution=execution) if self.requested[execution].kind == "task":
                    self.doubtful.add((event.job, self.lives[execution], event.node))
                case _:
                    pass
