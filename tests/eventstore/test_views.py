"""The SQL views: each state of each machine shows as such, and the rest of the columns of a small history."""

import sqlite3
import typing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest

from jobledger.core import events as ev
from jobledger.core.execution import EXECUTION
from jobledger.core.failure import exit_code_failure
from jobledger.core.finalizer import FINALIZER
from jobledger.core.ids import Duration, ExecutionId, JobId, Micros, NodeId, PoolId, TaskId
from jobledger.core.job import JOB
from jobledger.core.machine import ABSENT, Machine, Row
from jobledger.core.node import NODE, SCHEDULING
from jobledger.core.ports import NewEvent
from jobledger.core.preparation import PREPARATION
from jobledger.core.release import RELEASE
from jobledger.core.specs import JobSpec, PoolInfo, TaskSpec
from jobledger.core.task import TASK
from jobledger.eventstore import SqliteStore
from jobledger.testing.stores import NOW, TTL

JOB_1, TASK_1, NODE_1, POOL_1 = JobId("j-1"), TaskId("t-1"), NodeId("n-1"), PoolId("p-1")
CREATED = ev.JobCreated(job=JOB_1, spec=JobSpec(id=JOB_1, pool_info=PoolInfo(pool_id=POOL_1), priority=7))
ADDED = ev.TaskAdded(job=JOB_1, task=TASK_1, spec=TaskSpec(id=TASK_1, command_line="true"))

Ask = Callable[[str], list[dict[str, Any]]]
Tell = Callable[[Sequence[ev.Event]], None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def tell(path: Path) -> Iterator[Tell]:
    """Record events, a second apart."""
    store = SqliteStore.open(path)
    lease = store.acquire_lease("engine", now=NOW, ttl=TTL)

    def record(events: Sequence[ev.Event]) -> None:
        start = store.head().position
        store.append(
            [
                NewEvent(event=event, recorded_at=Micros(NOW + (start + number) * 1_000_000), causation="clock", correlation="x", actor="x")
                for number, event in enumerate(events)
            ],
            expected=start,
            lease=lease,
        )

    yield record
    store.close()


@pytest.fixture
def ask(path: Path) -> Ask:
    def rows(query: str) -> list[dict[str, Any]]:
        connection = sqlite3.connect(path)
        connection.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in connection.execute(query)]
        finally:
            connection.close()

    return rows


def example(kind: type[Any], **given: Any) -> Any:
    """A record of a kind, with something in every field that has no default."""
    hints = typing.get_type_hints(kind)
    return kind(
        **{field.name: given.get(field.name, _any_value(hints[field.name])) for field in attrs.fields(kind) if field.default is attrs.NOTHING}
    )


def _any_value(kind: Any) -> Any:
    if isinstance(kind, typing.NewType):
        return _any_value(kind.__supertype__)
    if typing.get_origin(kind) is Literal:
        return typing.get_args(kind)[0]
    if attrs.has(kind):
        return example(kind)
    return {str: "x", int: 1, bool: False}.get(kind)


def paths(machine: Machine) -> Iterator[list[Row]]:
    """For each row of a table a shortest way from `absent` that ends with it."""
    ways: dict[str, list[Row]] = {ABSENT: []}
    queue = deque([ABSENT])
    while queue:
        state = queue.popleft()
        for row in machine.rows:
            if row.source == state and row.target not in ways:
                ways[row.target] = [*ways[state], row]
                queue.append(row.target)
    for row in machine.rows:
        yield [*ways[row.source], row]


WAYS = [
    pytest.param(way, view, column, id=f"{machine.name}-{way[-1].source}-{way[-1].trigger}")
    for machine, view, column in [
        (JOB, "jobs", "state"),
        (TASK, "tasks", "state"),
        (PREPARATION, "preparations", "state"),
        (RELEASE, "releases", "state"),
        (FINALIZER, "finalizers", "state"),
        (EXECUTION, "executions", "state"),
        (NODE, "nodes", "state"),
        (SCHEDULING, "nodes", "scheduling"),
    ]
    for way in paths(machine)
]


@pytest.mark.parametrize(("way", "view", "column"), WAYS)
def test_every_row_of_every_table_shows_in_its_view(tell: Tell, ask: Ask, way: list[Row], view: str, column: str) -> None:
    if view not in {"jobs", "nodes"}:
        tell([CREATED])
    tell([example(row.event, job=JOB_1, task=TASK_1, node=NODE_1, execution=ExecutionId(1)) for row in way])
    assert [row[column] for row in ask(f"SELECT * FROM {view}")] == [way[-1].target]


def test_the_log_shows_every_event(tell: Tell, ask: Ask) -> None:
    tell([CREATED, ADDED, ev.NodeIdle(node=NODE_1)])
    shown = ask("SELECT position, at, stream, type, job, task, node, execution, length(hash) AS hash FROM log ORDER BY position")
    common = {"execution": None, "hash": 64}
    assert shown == [
        {"position": 1, "at": "2025-11-23T14:33:35.123456Z", "stream": "job/j-1", "type": "job.created", "job": "j-1", "task": None, "node": None}
        | common,
        {"position": 2, "at": "2025-11-23T14:33:36.123456Z", "stream": "job/j-1", "type": "task.added", "job": "j-1", "task": "t-1", "node": None}
        | common,
        {"position": 3, "at": "2025-11-23T14:33:37.123456Z", "stream": "node/n-1", "type": "node.idle", "job": None, "task": None, "node": "n-1"}
        | common,
    ]


def _run(
    number: int, kind: Literal["preparation", "task", "release", "finalizer"], task: str, exit_code: int, wall: Duration | None
) -> list[ev.Event]:
    common: dict[str, Any] = {"execution": ExecutionId(number), "job": JOB_1, "task": TaskId(task), "node": NODE_1}
    return [
        ev.ExecutionRequested(kind=kind, attempt=1, **common),
        ev.ExecutionConfirmed(pid=7, **common),
        ev.ExecutionEnded(exit_code=exit_code, signal=None, stopped=False, wall=wall, **common),
    ]


def test_a_job_from_its_beginning_to_its_end(tell: Tell, ask: Ask) -> None:
    failure = exit_code_failure(3, None)
    where: dict[str, Any] = {"job": JOB_1, "node": NODE_1}
    what: dict[str, Any] = {"job": JOB_1, "task": TASK_1}
    tell([CREATED, ADDED, ev.TaskPreparing(node=NODE_1, **what)])
    tell([ev.PreparationStarted(execution=ExecutionId(1), **where), *_run(1, "preparation", "jobpreparation", 0, Duration(1_500_000))])
    tell([ev.PreparationCompleted(result="success", exit_code=0, failure=None, **where), ev.ReleaseOwed(**where)])
    tell([ev.TaskRunning(node=NODE_1, execution=ExecutionId(2), **what), *_run(2, "task", "t-1", 3, None)])
    tell([ev.TaskRetried(exit_code=3, failure=failure, **what)])
    tell([ev.TaskRunning(node=NODE_1, execution=ExecutionId(3), **what), *_run(3, "task", "t-1", 3, None)])
    tell([ev.TaskCompleted(result="failure", exit_code=3, failure=failure, **what), ev.JobTerminating(job=JOB_1, reason="AllTasksComplete")])
    tell([ev.ReleaseStarted(execution=ExecutionId(4), **where), *_run(4, "release", "jobrelease", 0, None)])
    tell([ev.ReleaseCompleted(result="success", exit_code=0, failure=None, **where)])
    tell([ev.FinalizerStarted(execution=ExecutionId(5), **where), *_run(5, "finalizer", "jobfinalizer", 3, None)])
    tell([ev.FinalizerCompleted(result="failure", exit_code=3, failure=failure, **where), ev.JobCompleted(job=JOB_1)])
    (job,) = ask("SELECT job, state, pool, priority, terminate_reason, ended_at > created_at AS ended FROM jobs")
    assert job == {"job": "j-1", "state": "completed", "pool": "p-1", "priority": 7, "terminate_reason": "AllTasksComplete", "ended": 1}
    (task,) = ask("SELECT node, result, exit_code, failure_code, retries, requeues, ended_at > added_at AS ended FROM tasks")
    assert task == {
        "node": "n-1",
        "result": "failure",
        "exit_code": 3,
        "failure_code": "FailureExitCode",
        "retries": 1,
        "requeues": 0,
        "ended": 1,
    }
    (preparation,) = ask("SELECT node, state, result, exit_code, execution, duration_s FROM preparations")
    assert preparation == {"node": "n-1", "state": "completed", "result": "success", "exit_code": 0, "execution": 1, "duration_s": 4.0}
    (release,) = ask("SELECT node, state, result, cause, execution, duration_s FROM releases")
    assert release == {"node": "n-1", "state": "completed", "result": "success", "cause": None, "execution": 4, "duration_s": 4.0}
    (finalizer,) = ask("SELECT job, node, state, result, exit_code, failure_code, cause, execution, duration_s FROM finalizers")
    assert finalizer == {
        "job": "j-1",
        "node": "n-1",
        "state": "completed",
        "result": "failure",
        "exit_code": 3,
        "failure_code": "FailureExitCode",
        "cause": None,
        "execution": 5,
        "duration_s": 4.0,
    }
    executions = ask("SELECT execution, kind, task, attempt, state, exit_code, duration_s FROM executions ORDER BY execution")
    assert [(one["execution"], one["kind"], one["task"], one["exit_code"], one["duration_s"]) for one in executions] == [
        (1, "preparation", "jobpreparation", 0, 1.5),
        (2, "task", "t-1", 3, 1.0),
        (3, "task", "t-1", 3, 1.0),
        (4, "release", "jobrelease", 0, 1.0),
        (5, "finalizer", "jobfinalizer", 3, 1.0),
    ]


def test_a_task_that_is_reactivated_counts_anew(tell: Tell, ask: Ask) -> None:
    what: dict[str, Any] = {"job": JOB_1, "task": TASK_1}
    running = ev.TaskRunning(node=NODE_1, execution=ExecutionId(1), **what)
    failure = exit_code_failure(1, None)
    tell([CREATED, ADDED, running, ev.TaskRequeued(cause="lost", **what), running, ev.TaskRetried(exit_code=1, failure=failure, **what)])
    counts = "SELECT state, retries, requeues, exit_code FROM tasks"
    assert ask(counts) == [{"state": "active", "retries": 1, "requeues": 1, "exit_code": 1}]
    tell([running, ev.TaskCompleted(result="failure", exit_code=1, failure=failure, **what), ev.TaskReactivated(**what)])
    assert ask(counts) == [{"state": "active", "retries": 0, "requeues": 0, "exit_code": None}]


def test_a_job_that_is_made_again_leaves_its_former_life_behind(tell: Tell, ask: Ask) -> None:
    where: dict[str, Any] = {"job": JOB_1, "node": NODE_1}
    tell([CREATED, ADDED, ev.PreparationStarted(execution=ExecutionId(1), **where), ev.ReleaseOwed(**where)])
    tell([ev.FinalizerAbandoned(cause="x", **where)])
    tell([ev.JobTerminating(job=JOB_1, reason="x"), ev.JobCompleted(job=JOB_1), ev.JobDeleting(job=JOB_1), ev.JobDeleted(job=JOB_1), CREATED])
    assert ask("SELECT state, ended_at, terminate_reason FROM jobs") == [{"state": "active", "ended_at": None, "terminate_reason": None}]
    assert [ask(f"SELECT * FROM {view}") for view in ("tasks", "preparations", "releases", "finalizers")] == [[], [], [], []]


def test_a_node_shows_its_boot_and_incarnation(tell: Tell, ask: Ask) -> None:
    columns = "SELECT node, pool, state, reason, scheduling, incarnation, boot_id FROM nodes"
    tell([ev.NodeAdded(pool=POOL_1, node=NODE_1), ev.NodeStarting(node=NODE_1), ev.NodeBooted(node=NODE_1, boot_id="b-1"), ev.NodeIdle(node=NODE_1)])
    shown = {"node": "n-1", "pool": "p-1", "state": "idle", "reason": None, "scheduling": "enabled", "incarnation": 1, "boot_id": "b-1"}
    assert ask(columns) == [shown]
    tell([ev.NodeRebooting(node=NODE_1, incarnation=2, cause="on request"), ev.NodeUnknown(node=NODE_1, reason="no answer")])
    assert ask(columns) == [shown | {"state": "unknown", "reason": "no answer", "incarnation": 2}]
