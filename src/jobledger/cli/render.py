"""What the reading commands print for people: plain lines and aligned columns, the same on a terminal and in a pipe.

How columns are laid out and text is made printable is in `jobledger.printing`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from ..core.events import STORED
from ..core.explain import Reason
from ..core.failure import FailureInfo
from ..core.ids import Duration, Micros, NodeId, place_name
from ..core.ports import RecordedEvent
from ..core.specs import JobConstraints, JobSpec, MetadataItem, PoolInfo, PoolSpec, TaskSpec
from ..core.world import Job, Node, Pool, Run, Task, World
from ..durations import for_people
from ..eventstore import rfc3339
from ..printing import columns, printable
from ..views import reason_of, task_counts
from .progress import finalizer_text, run_text

FAILURES_SHOWN_MAX: Final = 20
"""Failures that `status JOB` lists; it says how many more there are, and `tasks` shows them all."""

_COMMAND_LINE_SHOWN_MAX: Final = 60

_NODE_HEADER: Final = ("node", "state", "preparation", "tasks run", "release")

_TYPE_WIDTH: Final = max(len(name) for name, _ in STORED.values())
_SUBJECT_WIDTH: Final = 32


def at_text(at: Micros) -> str:
    """A point in time to the second, in UTC: `2026-11-23 14:33:35Z`."""
    return rfc3339(at)[:19].replace("T", " ") + "Z"


def dry_run_text(world: World) -> str:
    """That a ledger is a dry run's, in a sentence."""
    return f"This is a dry run ({printable(world.dry_run)}): nothing of it was run, and its times are virtual."


def failure_text(failure: FailureInfo, exit_code: int | None) -> str:
    """A failure in one line: its code, how the program ended if it did, and what is known beyond."""
    details = {detail.name: detail.value for detail in failure.details}
    ended = [f"exit {exit_code}"] if exit_code is not None else []
    ended += [f"signal {details['Signal']}"] if "Signal" in details else []
    how = f" ({', '.join(ended)})" if ended else ""
    return f"{failure.code}{how}: {details.get('Message', failure.message)}"


# --- status ---------------------------------------------------------------------------------------------------


def overview(world: World, now: Micros) -> Iterator[str]:
    """All jobs, a line each, and all pools."""
    if world.dry_run:
        yield dry_run_text(world)
        yield ""
    if world.jobs:
        yield from job_table(world.jobs.values(), now)
    else:
        yield "no jobs; `jobledger run FILE` runs one, `jobledger submit FILE` hands one to a running engine"
    yield ""
    if world.pools:
        yield from pool_table(world, world.pools.values())
    else:
        yield "no pools"


def job_table(jobs: Iterable[Job], now: Micros) -> Iterator[str]:
    """Jobs, a line each."""
    header = ("job", "state", "priority", "tasks", "active", "running", "succeeded", "failed", "created", "took", "reason")
    return columns(header, [_job_row(job, now) for job in jobs])


def _job_row(job: Job, now: Micros) -> Sequence[object]:
    counts = task_counts(job)
    took = for_people(Duration((now if job.ended_at is None else job.ended_at) - job.created_at))
    why = "blocked: preparation failed on every node" if job.blocked else job.terminate_reason or ""
    shown = [counts[name] for name in ("active", "running", "succeeded", "failed")]
    return (job.id, job.state, job.spec.priority, len(job.tasks), *shown, at_text(job.created_at), took, why)


def pool_table(world: World, pools: Iterable[Pool]) -> Iterator[str]:
    """Pools, a line each."""
    header = ("pool", "state", "allocation", "executor", "slots per node", "nodes", "resize errors")
    return columns(header, [_pool_row(world, pool) for pool in pools])


def _pool_row(world: World, pool: Pool) -> Sequence[object]:
    states = Counter(_state_text(world.nodes[node]) for node in pool.nodes)
    nodes = ", ".join(f"{count} {state}" for state, count in states.items()) or "none"
    wanted = f" (of {pool.target})" if pool.target != len(pool.nodes) else ""
    return (pool.id, pool.state, pool.allocation, pool.spec.executor, pool.spec.task_slots_per_node, nodes + wanted, "; ".join(pool.errors))


def job_status(world: World, job: Job, reasons: Sequence[Reason], root: Path, now: Micros) -> Iterator[str]:
    """One job in full: its state and counts, each node's preparation and release, what failed, and where output lies."""
    counts = task_counts(job)
    took = for_people(Duration((now if job.ended_at is None else job.ended_at) - job.created_at))
    pool = job.spec.pool_info.pool_id
    yield f"job {job.id}: {job.state}" + (f" ({printable(job.terminate_reason)})" if job.terminate_reason is not None else "")
    yield f"pool {pool}, priority {job.spec.priority}, created {at_text(job.created_at)}, {'took' if job.ended_at is not None else 'for'} {took}"
    if world.dry_run:
        yield dry_run_text(world)
    yield f"tasks: {len(job.tasks)}, of which " + ", ".join(f"{counts[name]} {name}" for name in ("active", "running", "succeeded", "failed"))
    if job.state != "completed":
        yield from (printable(reason.text) for reason in reasons)
    if rows := list(_node_rows(world, job)):
        yield ""
        yield from columns(_NODE_HEADER, rows)
    if job.spec.job_finalizer_task is not None:
        yield ""
        yield printable(f"finalizer: {finalizer_text(job)}")
    yield from _failures(job)
    if rows and not world.dry_run:
        yield ""
        yield f"output: {root}/{pool}/<node>/workitems/{job.id}/job-1/<task>/{{stdout,stderr}}.txt (`jobledger log {job.id} TASK` prints it)"
        yield _files_text(world, job)


def _files_text(world: World, job: Job) -> str:
    """How many folders there are on nodes, and when the first and the last of them are removed."""
    nodes = [world.nodes[node].folders[job.id] for node in world.nodes_with_files.get(job.id, ())]
    dues = sorted(folder.due for of_node in nodes for folder in of_node.values() if folder.due is not None)
    number = sum(map(len, nodes))
    if not number:
        return "files: removed, or gone with their nodes"
    if not dues:
        return f"files: {number} folders, none of which is to be removed"
    first, last = at_text(dues[0]), at_text(dues[-1])
    until = f"at {first}" if first == last else f"between {first} and {last}"
    return f"files: {number} folders, of which {len(dues)} will be removed {until} (`jobledger files ls {job.id} TASK` lists them)"


def preparation_table(world: World, job: Job) -> Iterator[str]:
    """The nodes where the job's preparation, release or tasks ran, a line each; nothing where there are none."""
    rows = list(_node_rows(world, job))
    return columns(_NODE_HEADER, rows) if rows else iter(())


def _node_rows(world: World, job: Job) -> Iterator[Sequence[object]]:
    ran = Counter(task.node for task in job.tasks.values() if task.node is not None and task.launches)
    for node_id in sorted({*job.preparations, *job.releases, *ran}):
        node = world.nodes.get(node_id)
        preparation = run_text(job.preparations.get(node_id)) if job.spec.job_preparation_task is not None else "none"
        yield (node_id, node.state if node is not None else "removed", preparation, ran[node_id], _release_text(job, node_id))


def _release_text(job: Job, node: NodeId) -> str:
    release = job.releases.get(node)
    if job.spec.job_release_task is None:
        return "none"
    return run_text(release) + (f": {release.abandoned_because}" if release is not None and release.abandoned_because is not None else "")


def _failures(job: Job) -> Iterator[str]:
    rows: list[Sequence[object]] = []
    runs: list[tuple[str, dict[NodeId, Run]]] = []
    if job.spec.job_preparation_task is not None:
        runs.append((job.spec.job_preparation_task.id, dict(job.preparations)))
    if job.spec.job_release_task is not None:
        runs.append((job.spec.job_release_task.id, dict(job.releases)))
    for name, on_nodes in runs:
        rows += [(name, node, failure_text(run.failure, run.exit_code)) for node, run in on_nodes.items() if run.failure is not None]
    if (finalizer := job.finalizer) is not None and finalizer.failure is not None and job.spec.job_finalizer_task is not None:
        failed = failure_text(finalizer.failure, finalizer.exit_code)
        rows.append((job.spec.job_finalizer_task.id, place_name(finalizer.node), failed))
    rows += [
        (task.spec.id, task.node or "", failure_text(task.failure, task.exit_code))
        for task in job.tasks.values()
        if task.failure is not None and task.state == "completed"
    ]
    if rows:
        yield ""
        yield from columns(("failed", "node", "why"), rows[:FAILURES_SHOWN_MAX])
    if (more := len(rows) - FAILURES_SHOWN_MAX) > 0:
        yield f"and {more} more: `jobledger tasks {job.id} --state failed`"


# --- nodes and tasks ------------------------------------------------------------------------------------------


def node_table(world: World) -> Iterator[str]:
    """All nodes, a line each."""
    header = ("node", "pool", "state", "scheduling", "tasks now", "tasks run", "succeeded", "start task", "last boot", "reason")
    return columns(header, [_node_row(node) for node in world.nodes.values()])


def _node_row(node: Node) -> Sequence[object]:
    booted = at_text(node.booted_at) if node.booted_at is not None else "never"
    reason = reason_of(node) or ""
    run = node.start_task
    start = "-" if run is None else run.state if run.state != "completed" else f"exit {run.exit_code}" if run.exit_code is not None else "failed"
    if run is not None and run.failure is not None and node.state == "starttaskfailed":
        reason = failure_text(run.failure, run.exit_code)
    counts = (len(node.tasks), node.tasks_run, node.tasks_succeeded)
    return (node.id, node.pool, _state_text(node), node.scheduling, *counts, start, booted, reason)


def _state_text(node: Node) -> str:
    """A node's state, and where it drains what that is for."""
    return node.state if node.draining is None else f"{node.state} (draining to {node.draining.then})"


def task_table(tasks: Iterable[Task], now: Micros) -> Iterator[str]:
    """Tasks, a line each."""
    return columns(
        ("task", "state", "node", "exit code", "retries", "requeues", "started", "took", "failure"), [_task_row(task, now) for task in tasks]
    )


def _task_row(task: Task, now: Micros) -> Sequence[object]:
    completed, shows_times = task.state == "completed", task.state in {"running", "completed"} and task.launches > 0
    started = at_text(task.started_at) if shows_times and task.started_at is not None else ""
    took = ""
    if shows_times and task.started_at is not None:
        took = for_people(Duration((task.ended_at if completed and task.ended_at is not None else now) - task.started_at))
    failure = ""
    if task.failure is not None:
        failure = failure_text(task.failure, None) if completed else f"exit {task.exit_code}, to be tried again"
    exit_code = task.exit_code if completed and task.exit_code is not None else ""
    return (task.spec.id, task.state, task.node or "", exit_code, task.retries, task.requeues, started, took, failure)


# --- events ---------------------------------------------------------------------------------------------------


def event_line(recorded: RecordedEvent) -> str:
    """An event in one line: position, time, type, subject (`job/task @node`), and what else it tells."""
    event = recorded.event
    time = rfc3339(recorded.recorded_at)[:23].replace("T", " ") + "Z"
    fields = {field.name: getattr(event, field.name) for field in attrs.fields(type(event))}
    subject = "/".join(str(value) for name in ("job", "task") if (value := fields.pop(name, None)) is not None)
    if (node := fields.pop("node", None)) is not None:
        subject = f"{subject} @{node}".lstrip()
    elif not subject and "pool" in fields:
        subject = f"pool {fields.pop('pool')}"
    told = " ".join(f"{name}={value}" for name, field in fields.items() for name, value in _told(name, field))
    kind = STORED[type(event)][0]
    return printable(f"{recorded.position:>7}  {time}  {kind:<{_TYPE_WIDTH}}  {subject:<{_SUBJECT_WIDTH}}  {told}".rstrip())


def _told(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """What a field of an event says in a line: nothing for an empty one, and of a record the telling part."""
    match value:
        case None | () | "":
            return
        case FailureInfo():
            yield name, _quoted(failure_text(value, None))
        case TaskSpec(command_line=line):
            yield "commandLine", _quoted(line if len(line) <= _COMMAND_LINE_SHOWN_MAX else line[: _COMMAND_LINE_SHOWN_MAX - 3] + "...")
        case JobSpec(pool_info=info):
            yield "pool", info.pool_id
        case PoolInfo(pool_id=pool_id):
            yield "pool", pool_id
        case JobConstraints(max_wall_clock_time=limit, max_task_retry_count=retries):
            yield "maxWallClockTime", "unlimited" if limit is None else for_people(limit)
            yield "maxTaskRetryCount", str(retries)
        case PoolSpec(executor=executor, nodes=nodes):
            yield "executor", executor
            yield "nodes", str(nodes)
        case bool():
            yield name, "yes" if value else "no"
        case tuple():
            yield name, _quoted(", ".join(f"{item.name}={item.value}" if isinstance(item, MetadataItem) else str(item) for item in value))
        case int() if name == "wall":
            yield name, for_people(Duration(value))
        case _:
            yield name, _quoted(str(value))


def _quoted(text: str) -> str:
    return (
        json.dumps(text, ensure_ascii=False)
        if any(character.isspace() or not character.isprintable() or character == '"' for character in text)
        else text
    )
