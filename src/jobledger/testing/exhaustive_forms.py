"""Canonical forms and copies of small worlds, both made from the type hints of what they are of.

1. Whatever a state holds is in its form unless a table below leaves it out and says why: a field that is added tomorrow
   tells states apart from the first day on.  Too much in a form costs time; too little would hide states, and is what
   `exhaustive.explore` looks for when it is told to compare what was merged.
2. Nodes are renamed where they are interchangeable, tasks too, executions by their order on their node, and boots of machines by order
   of appearance: all of these are compared for equality or order only, and a new one always gets a name that was never there.
3. A copy shares what never changes, which is what has a hash.
"""

import marshal
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import permutations, product
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, Final, Literal, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

import attrs
from attrs import define, fields, frozen

from jobledger.core import commands as c
from jobledger.core import events as e
from jobledger.core import history as h
from jobledger.core import history_of_files as hf
from jobledger.core import reports as r
from jobledger.core import specs as s
from jobledger.core import world as w
from jobledger.core.failure import FailureInfo
from jobledger.core.ids import ExecutionId, JobId, Micros, NodeId, TaskId
from jobledger.core.subjects import Key

from .model import Machine, ModelExecutor, Program

T = TypeVar("T")


@define
class State:
    """One state of a small world; never changed, only copied.  `left` is what may still happen to it, by name."""

    world: w.World
    history: h.History
    executor: ModelExecutor
    left: tuple[int, ...]
    now: Micros
    host_boots: int


@define
class Names:
    """What things are called in one form."""

    nodes: dict[NodeId, str]
    tasks: dict[TaskId, str]
    nodes_of: dict[int, NodeId]
    """By the number of an execution: its node."""
    ranks: dict[tuple[NodeId, int], int]
    """By node and number: its place among the numbers that matter there."""
    now: Micros
    boots: dict[str, int]
    """Boots by their order of appearance on their node."""

    def execution(self, number: int) -> tuple[str, int]:
        """An execution by its node and its place there; all that are over and that nobody speaks of are one."""
        node = self.nodes_of.get(number)
        return ("", 0) if node is None else (self.nodes.get(node, node), self.ranks[(node, number)])


_NO_BOOT: Final = "boot-0"
"""Of a machine that never booted."""

Former = Callable[[Any, Names], Any]
Copier = Callable[[Any], Any]

# --- what is left out ---------------------------------------------------------------------------------------

_TOLD: Final = "it is told to people and programs, and no rule reads it"
_INDEX: Final = "an index that each state is judged to agree with what it indexes, which is in the form"
_SPEC: Final = "no bounds change a specification, and whose it is says the name"

LEFT_OUT: Final[dict[tuple[type, str], str]] = {
    **{(owner, name): _TOLD for owner in (w.Pool, w.Job) for name in ("changed_at", "created_at") if (owner, name) != (w.Job, "created_at")},
    **{(w.Node, name): _TOLD for name in ("changed_at", "added_at", "booted_at", "tasks_run", "tasks_succeeded", "reason", "disabled_because")},
    **{(w.Task, name): _TOLD for name in ("changed_at", "added_at", "started_at", "ended_at", "last_retry_at", "last_requeue_at")},
    **{(w.Task, name): _TOLD for name in ("launches", "requeues", "failure")},
    **{(run, name): _TOLD for run in (w.Run, w.Preparation, w.Release, w.Finalizer) for name in ("launches", "started_at", "ended_at")},
    **{(run, name): _TOLD for run in (w.Run, w.Preparation, w.Release, w.Finalizer) for name in ("last_retry_at", "failure")},
    **{(run, "abandoned_because"): _TOLD for run in (w.Release, w.Finalizer)},
    **{(w.Job, name): _TOLD for name in ("previous_state", "disable_reason", "terminate_reason", "delete_reason")},
    **{(owner, "attempt"): _TOLD for owner in (w.Execution, c.Launch, e.ExecutionRequested)},
    **{(owner, "pid"): _TOLD for owner in (w.Execution, r.ExecutionStarted)},
    **{(owner, "reason"): _TOLD for owner in (r.ExecutionLost, r.NodeFaulted, e.ExecutionUnresolved)},
    (w.Drain, "since"): _TOLD,
    (w.Pool, "errors"): _TOLD,
    (w.World, "engine_root"): _TOLD,
    (w.World, "engine_epoch"): _TOLD,
    **{(w.Job, name): _INDEX for name in ("queue", "delayed", "dependents", "counts", "succeeded", "live", "unstopped", "stopping", "releasing")},
    **{(w.Job, name): _INDEX for name in ("owed", "ineligible")},
    **{(w.Pool, name): _INDEX for name in ("nodes", "unsettled", "leaving", "draining", "free_of", "ready")},
    **{(w.Node, name): _INDEX for name in ("slots", "live", "owes")},
    **{(w.World, name): _INDEX for name in ("jobs_of_pool", "finalizing", "nodes_with_files", "wiping", "deadlines")},
    (w.Task, "unmet"): _INDEX,
    (w.Folder, "alarm"): "whether it is there or not, the next deadline is the one that the folders ask for, to which each state is judged",
    (w.World, "agenda"): "it is empty between stimuli, as each state is judged to be settled",
    (w.World, "next_execution"): "a new execution has a number above all others, and is only asked whether it has",
    (h.History, "last_execution"): "the same",
    (h.History, "position"): "each position is one more than the one before in any state",
    (w.World, "jobs_created"): "a new job is behind all others",
    (w.Job, "number"): "jobs are named in the order that it stands for",
    (w.Job, "added"): "no bounds add tasks",
    (w.Task, "number"): "tasks are formed in the order that it stands for",
    (w.Pool, "added"): "no bounds resize a pool",
    (w.Pool, "target"): "the same",
    (w.Node, "number"): "it decides only which nodes a resize removes, and no bounds resize a pool",
    (w.Job, "spec"): _SPEC,
    (w.Job, "submitted"): _SPEC,
    (w.Task, "spec"): _SPEC,
    (w.Task, "job_constraints"): _SPEC,
    (w.Pool, "spec"): _SPEC,
    (h.JobFacts, "spec"): _SPEC,
    (h.TaskFacts, "spec"): _SPEC,
    (h.TaskFacts, "tries"): _SPEC,
    (h.History, "pools"): _SPEC,
    (ModelExecutor, "specs"): _SPEC,
    (ModelExecutor, "users"): _SPEC,
    **{(c.Launch, field.name): _SPEC for field in fields(c.Launch) if field.name not in {"execution", "attempt"}},
    **{(command, "pool"): _SPEC for command in (c.StopExecution, c.BootNode, c.RetireNode, c.RemoveFiles)},
    (c.StopExecution, "grace"): _SPEC,
    (ModelExecutor, "complaints"): "one is enough to be broken",
    (ModelExecutor, "in_doubt"): "it is for the eyes of tests that look at whole histories",
    (ModelExecutor, "boots"): "a new boot is one that was never there",
}
"""Fields that forms leave out, each with the reason why nothing that can happen afterwards depends on it."""

_BY_KEY: Final = "it is only asked for a key, or gone through where the order decides nothing"

UNORDERED: Final[dict[tuple[type, str], str]] = {
    **{(w.World, field.name): _BY_KEY for field in fields(w.World)},
    **{(w.Job, name): _BY_KEY for name in ("preparations", "releases", "wrote_elsewhere", "satisfied")},
    **{(w.Node, name): _BY_KEY for name in ("folders", "jobs")},
    **{(owner, field.name): _BY_KEY for owner in (h.History, h.JobFacts, h.NodeFacts, hf.FilesOfNode) for field in fields(owner)},
    **{(Machine, field.name): _BY_KEY for field in fields(Machine)},
    **{(ModelExecutor, field.name): _BY_KEY for field in fields(ModelExecutor)},
}
"""Collections whose order forms leave out; everywhere else order is a part of the state."""

# --- forms --------------------------------------------------------------------------------------------------


def digest(state: State, symmetry: "Symmetry", *, budget: bool = True) -> bytes:
    """What is the same for two states exactly if they are the same up to names; without `budget` whatever may still happen to them."""
    form = min(marshal.dumps(_form(state, names), 0) for names in symmetry.namings(state))
    return blake2b(form, digest_size=16, key=marshal.dumps(state.left, 0) if budget else b"").digest()


def _form(state: State, names: Names) -> Any:
    return (
        _of(w.World)(state.world, names),
        _of(ModelExecutor)(state.executor, names),
        _of(h.History)(state.history, names),
        state.host_boots,
    )


@frozen
class Symmetry:
    """Which nodes, and which tasks of each job, are interchangeable; the specifications say it."""

    nodes: tuple[NodeId, ...]
    groups: tuple[tuple[JobId, tuple[TaskId, ...]], ...]

    def namings(self, state: State) -> Iterator[Names]:
        """Every naming that the state itself gives no reason to prefer another to."""
        nodes_of, numbers = _numbers(state)
        ranks = {(node, number): place for node, of_node in numbers.items() for place, number in enumerate(sorted(of_node))}
        boots = _boots(state)
        for order in self._orders(state):
            nodes = {node: f"n{place}" for place, node in enumerate(order)}
            tasks = {task: name for job, group in self.groups for task, name in _task_names(state, job, group, nodes, ranks)}
            yield Names(nodes, tasks, nodes_of, ranks, state.now, boots)

    def _orders(self, state: State) -> Iterator[tuple[NodeId, ...]]:
        """Orders of the nodes: by what each is like, and where two are alike, both ways."""
        if len(self.nodes) < 2:
            yield self.nodes
            return
        alike: dict[str, list[NodeId]] = {}
        for node in self.nodes:
            alike.setdefault(repr(_likeness(state, node)), []).append(node)
        for found in product(*(permutations(alike[look]) for look in sorted(alike))):
            yield tuple(node for group in found for node in group)


def symmetry_of(nodes: Sequence[NodeId], jobs: Iterable[tuple[s.JobSpec, Sequence[s.TaskSpec]]], *, named: Iterable[str] = ()) -> Symmetry:
    """What is interchangeable: nodes that nobody names, and tasks of a job that differ in nothing but their ids and that nobody names.

    `named` are ids of nodes and tasks that something outside the specifications names.
    """
    said, groups = set(named), []
    for job, tasks in jobs:
        said |= {job.job_finalizer_task.node_id} if job.job_finalizer_task is not None and job.job_finalizer_task.node_id is not None else set()
        said |= {task.affinity_info.node for task in tasks if task.affinity_info is not None}
        alike: dict[s.TaskSpec, list[TaskId]] = {}
        if not job.uses_task_dependencies:
            for task in tasks:
                if task.id not in said:
                    alike.setdefault(attrs.evolve(task, id=TaskId("")), []).append(task.id)
        groups += [(job.id, tuple(group)) for group in alike.values()]
    return Symmetry(() if said & set(nodes) else tuple(nodes), tuple(groups))


def _task_names(
    state: State, job_id: JobId, group: tuple[TaskId, ...], nodes: dict[NodeId, str], ranks: dict[tuple[NodeId, int], int]
) -> Iterator[tuple[TaskId, str]]:
    """Tasks that are alike: first those that are not over, in the order in which they are placed, and then the others, whose order no rule reads.

    These are told apart by how they ended, and by where and when they ran.
    """
    job = state.world.jobs.get(job_id)
    if job is None:
        return

    def end(task: w.Task) -> tuple[str, ...]:
        written = [
            (nodes.get(node, node), ranks[(node, number)])
            for node, machine in state.executor.machines.items()
            if (number := machine.folders.get((job_id, task.spec.id))) is not None
        ]
        return (str(task.result), str(task.exit_code), str(task.retries), nodes.get(task.wrote_on or NodeId(""), ""), repr(sorted(written)))

    here = [job.tasks[task] for task in group if task in job.tasks]
    waiting = [task for task in here if task.state != "completed"]
    over = sorted((task for task in here if task.state == "completed"), key=end)
    for place, task in enumerate([*waiting, *over]):
        yield task.spec.id, f"{group[0]}.{place}"


def _likeness(state: State, node_id: NodeId) -> Any:
    """What a node is like, whatever it is called: cheap, and enough to tell most nodes apart."""
    node, machine = state.world.nodes.get(node_id), state.executor.machines.get(node_id)
    if node is None or machine is None:
        return ""
    live = [(one.kind, one.state, one.stop is None) for number in node.live if (one := state.world.executions.get(number)) is not None]
    programs = sorted((one.kind, one.state) for one in state.executor.programs.values() if one.launch.node == node_id)
    jobs = [(job.id, run.state, run.result) for job in state.world.jobs.values() if (run := job.preparations.get(node_id)) is not None]
    debts = [(job.id, debt.state) for job in state.world.jobs.values() if (debt := job.releases.get(node_id)) is not None]
    queue = len(state.executor.queues.get(node_id, ()))
    return (node.state, node.incarnation, node.scheduling, len(node.tasks), live, programs, jobs, debts, queue, machine.up, machine.reachable)


def _numbers(state: State) -> tuple[dict[int, NodeId], dict[NodeId, set[int]]]:
    """Every number of an execution that anything still speaks of: where each ran, and by node those that are compared there."""
    nodes_of: dict[int, NodeId] = {execution.id: execution.node for execution in state.world.executions.values()}
    nodes_of.update((number, program.launch.node) for number, program in state.executor.programs.items())
    fences: list[tuple[NodeId, int]] = []
    for node_id, machine in state.executor.machines.items():
        nodes_of.update((number, node_id) for number in machine.folders.values())
    for node_id, queue in state.executor.queues.items():
        for command in queue:
            if isinstance(command, c.RunCommand):
                nodes_of[command.launch.execution] = node_id
            elif isinstance(command, c.StopExecution):
                nodes_of[command.execution] = node_id
            elif isinstance(command, c.RemoveFiles):
                fences.append((node_id, command.before))
    fences += [(report.node, report.before) for report in state.executor.reports if isinstance(report, r.FilesRemoved)]
    fences += [(node.id, before) for node in state.world.nodes.values() for before in node.removals.values()]
    numbers: dict[NodeId, set[int]] = {}
    for number, node_id in nodes_of.items():
        numbers.setdefault(node_id, set()).add(number)
    for node_id, number in fences:
        numbers.setdefault(node_id, set()).add(number)
    return nodes_of, numbers


def _boots(state: State) -> dict[str, int]:
    """Every boot that anything still speaks of: as the node has it, as its machine does, and as reports do in their order."""
    seen: dict[NodeId, dict[str, int]] = {}
    said = [(node.id, node.boot_id) for node in state.world.nodes.values() if node.boot_id is not None]
    said += [(node_id, f"boot-{machine.boot}") for node_id, machine in state.executor.machines.items()]
    said += [(report.node, report.boot_id) for report in state.executor.reports if isinstance(report, r.NodeReady)]
    for node_id, boot in said:
        of_node = seen.setdefault(node_id, {})
        of_node.setdefault(boot, len(of_node))
    return {boot: place for of_node in seen.values() for boot, place in of_node.items() if boot != _NO_BOOT}


# --- forms of classes and types -----------------------------------------------------------------------------

_FORMERS: Final[dict[type, Former]] = {}


def _of(cls: type) -> Former:
    """How values of a class are formed."""
    former = _FORMERS.get(cls)
    if former is None:
        former = _FORMERS[cls] = _class_former(cls)
    return former


def _class_former(cls: type) -> Former:
    hints = get_type_hints(cls)
    plain: list[str] = []
    others: list[tuple[str, Former]] = []
    whole: list[Former] = []
    for field in fields(cls):
        key = (cls, field.name)
        if key in LEFT_OUT:
            continue
        if (special := _SPECIAL.get(key)) is not None:
            whole.append(special)
        elif (former := _former(hints[field.name], ordered=key not in UNORDERED)) is not None:
            others.append((field.name, former))
        else:
            plain.append(field.name)
    get = attrgetter(*plain) if plain else lambda _value: ()
    name = cls.__name__

    def form(value: Any, names: Names) -> Any:
        return (name, get(value), *[former(getattr(value, field), names) for field, former in others], *[former(value, names) for former in whole])

    return form


def _any_class(value: Any, names: Names) -> Any:
    return None if value is None else _of(type(value))(value, names)


def _former(hint: Any, *, ordered: bool) -> Former | None:
    """How values of a type are formed; None where they are their own form."""
    origin = get_origin(hint)
    if hint in _RENAMED:
        return _RENAMED[hint]
    if isinstance(hint, NewType) or hint in {None, str, int, bool, NoneType} or origin is Literal:
        return None
    if origin in {Union, UnionType}:
        return _union_former([one for one in get_args(hint) if one is not NoneType], ordered=ordered)
    if attrs.has(hint):
        return _any_class
    inner = [_former(one, ordered=ordered) for one in get_args(hint) if one is not ...]
    if origin is tuple:
        return _tuple_former(inner, endless=... in get_args(hint))
    if origin in {dict, OrderedDict}:
        return _dict_former(inner[0], inner[1], ordered=ordered)
    if origin in {list, set}:
        return _list_former(inner[0], ordered=ordered and origin is list)
    raise TypeError(f"there is no form for {hint}")


def _union_former(options: list[Any], *, ordered: bool) -> Former | None:
    formers = [_former(one, ordered=ordered) for one in options]
    renamed = [former for former in formers if former is not None]
    if not renamed:
        return None
    first = renamed[0]
    if all(former is first for former in formers):
        return lambda value, names: None if value is None else first(value, names)
    if set(options) == {TaskId, int}:
        return lambda value, names: names.tasks.get(TaskId(value), value) if isinstance(value, str) else value
    raise TypeError(f"there is no form for any of {options}")


def _tuple_former(inner: list[Former | None], *, endless: bool) -> Former | None:
    if all(former is None for former in inner):
        return None
    if endless:
        return _list_former(inner[0], ordered=True)
    return lambda value, names: tuple(one if former is None else former(one, names) for former, one in zip(inner, value, strict=True))


def _dict_former(of_key: Former | None, of_value: Former | None, *, ordered: bool) -> Former:
    def form(value: Mapping[Any, Any], names: Names) -> Any:
        if not value:
            return ()
        formed = [(key if of_key is None else of_key(key, names), one if of_value is None else of_value(one, names)) for key, one in value.items()]
        return tuple(formed if ordered or len(formed) < 2 else sorted(formed, key=repr))

    return form


def _list_former(of_value: Former | None, *, ordered: bool) -> Former:
    def form(value: Iterable[Any], names: Names) -> Any:
        formed = list(value) if of_value is None else [of_value(one, names) for one in value]
        return tuple(formed if ordered or len(formed) < 2 else sorted(formed, key=repr))

    return form


_RENAMED: Final[dict[Any, Former]] = {
    NodeId: lambda value, names: names.nodes.get(value, value),
    TaskId: lambda value, names: names.tasks.get(value, value),
    ExecutionId: lambda value, names: names.execution(value),
    Micros: lambda value, names: value - names.now,
    FailureInfo: lambda value, _: value is not None,  # Rules ask whether there is one, and never what it says.
}


def _owed(world: w.World, names: Names) -> Any:
    """The order of owed commands, node by node: it is the order in which they go out again after a crash, and what is owed is in the world."""
    by_node: dict[str, list[Any]] = {}
    for verb, subject, number in world.owed.now:
        if isinstance(subject, tuple):
            node, job, task = subject
            by_node.setdefault(names.nodes.get(node, node), []).append((verb, job, names.tasks.get(task, task) if task else task))
        elif verb in {"run", "stop"}:
            place, rank = names.execution(int(subject))
            by_node.setdefault(place, []).append((verb, rank, number))
        else:
            by_node.setdefault(names.nodes.get(NodeId(str(subject)), str(subject)), []).append((verb, number))
    return tuple((node, tuple(keys)) for node, keys in sorted(by_node.items()))


def _tasks(job: w.Job, names: Names) -> Any:
    """The tasks that are not over in the order of their numbers, in which they are placed, and then the others."""
    form = _of(w.Task)
    formed = [(names.tasks.get(name, name), form(task, names)) for name, task in job.tasks.items() if task.state != "completed"]
    over = [(names.tasks.get(name, name), form(task, names)) for name, task in job.tasks.items() if task.state == "completed"]
    return (tuple(formed), tuple(sorted(over, key=repr)))


def _keys(found: Mapping[Key, Any], names: Names) -> Any:
    """States by the tables, by whose they are."""
    formed: list[Any] = []
    for (machine, *ids), state in found.items():
        if machine == "execution":
            formed.append((machine, names.execution(int(ids[0])), state))
        else:
            formed.append((machine, tuple([names.nodes.get(NodeId(one), names.tasks.get(TaskId(one), one)) for one in ids]), state))
    return tuple(sorted(formed, key=repr))


def _reports(reports: Iterable[r.Report], names: Names) -> Any:
    """Reports arrive in any order, but of the boots of one node in theirs."""
    formed = [(isinstance(report, r.NodeReady), _of(type(report))(report, names)) for report in reports]
    boots: dict[str, list[Any]] = {}
    for report, (_, form) in zip(reports, formed, strict=True):
        if isinstance(report, r.NodeReady):
            boots.setdefault(names.nodes.get(report.node, report.node), []).append(form)
    others = sorted((form for is_boot, form in formed if not is_boot), key=repr)
    return (tuple(others), tuple((node, tuple(boots[node])) for node in sorted(boots)))


def _fence(owner: Any, names: Names) -> int:
    return names.ranks[(owner.node, owner.before)]


_SPECIAL: Final[dict[tuple[type, str], Former]] = {
    (w.World, "owed"): _owed,
    (w.Job, "tasks"): _tasks,
    (w.Node, "boot_id"): lambda node, names: names.boots.get(node.boot_id),
    (Machine, "boot"): lambda machine, names: names.boots.get(f"boot-{machine.boot}"),
    (r.NodeReady, "boot_id"): lambda report, names: names.boots.get(report.boot_id),
    (w.Node, "removals"): lambda node, names: tuple(
        [(job, names.tasks.get(task, task) if task else None, names.ranks[(node.id, before)]) for (job, task), before in node.removals.items()]
    ),
    (c.RemoveFiles, "before"): _fence,
    (r.FilesRemoved, "before"): _fence,
    (h.History, "states"): lambda history, names: _keys(history.states, names),
    (h.History, "internal"): lambda history, names: _keys(history.internal, names),
    (ModelExecutor, "reports"): lambda executor, names: _reports(executor.reports, names),
    (Program, "launch"): lambda program, names: (
        names.nodes.get(program.launch.node, program.launch.node),
        names.tasks.get(program.launch.task, program.launch.task),
    ),
}
"""Fields whose form needs more than their own value; given the whole that they are of."""

# --- copies -------------------------------------------------------------------------------------------------

_COPIERS: Final[dict[type, Copier]] = {}


def copy_of(value: T) -> T:
    """A copy that shares only what never changes."""
    copied: T = _copy_by_class(value)
    return copied


def _copy_by_class(value: Any) -> Any:
    if value is None:
        return None
    cls = type(value)
    copier = _COPIERS.get(cls)
    if copier is None:
        copier = _COPIERS[cls] = _class_copier(cls)
    return copier(value)


def _class_copier(cls: type) -> Copier:
    hints = get_type_hints(cls)
    plan = [(field.name, _copier(hints[field.name])) for field in fields(cls)]
    shared = tuple(name for name, copier in plan if copier is None)
    copied = tuple((name, copier) for name, copier in plan if copier is not None)

    def copy(value: Any) -> Any:
        new: Any = object.__new__(cls)
        for name in shared:
            setattr(new, name, getattr(value, name))
        for name, copier in copied:
            setattr(new, name, copier(getattr(value, name)))
        return new

    return copy


def _copier(hint: Any) -> Copier | None:
    """How values of a type are copied; None where they are shared."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in {Union, UnionType}:
        return _copy_by_class if any(_copier(one) is not None for one in inner) else None
    if origin in {dict, OrderedDict}:
        return _dict_copier(_copier(inner[1]))
    if origin in {list, set}:
        of_one = _copier(inner[0])
        return _copy_flat if of_one is None else lambda value: type(value)(map(of_one, value))
    return _copy_by_class if attrs.has(hint) and vars(hint)["__hash__"] is None else None


def _dict_copier(of_value: Copier | None) -> Copier:
    if of_value is None:
        return _copy_flat
    return lambda value: type(value)((key, of_value(one)) for key, one in value.items()) if value else type(value)()


def _copy_flat(value: Any) -> Any:
    return value.copy()
