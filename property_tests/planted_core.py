"""Planted bugs in the rules of jobs, tasks, preparations, releases and nodes."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import attrs
from planting import PLAIN, TERMINATE, Planted, a_job, after, around, depending, fold, retried, swapped

from jobledger.core import deadlines, decide, dependencies, execution, job, node, placement, preparation, release, task, world
from jobledger.core import events as e
from jobledger.core import reports as r
from jobledger.core import requests as q
from jobledger.core import specs as s
from jobledger.core.failure import ended_failure
from jobledger.core.ids import SECOND
from jobledger.testing.trail import Trail


def to_the_end() -> Trail:
    """The whole life of a job with preparation and release, and its deletion."""
    return Trail(job=a_job()).exit(0, 0).do(TERMINATE).exit(0).do(q.DeleteJob(job="j")).arrive()


def terminated_while_preparing() -> Trail:
    return Trail(job=a_job()).arrive().do(TERMINATE).exit(0)


def terminated_while_running() -> Trail:
    return Trail(job=a_job()).exit(0).do(TERMINATE).arrive()


def two_tasks(slots: int = 2) -> Trail:
    return Trail(job=a_job(), slots=slots, tasks=("t1", "t2")).exit(0, 0)


def reimaged() -> Trail:
    return Trail(job=a_job(), tasks=("t1", "t2")).exit(0, 0).do(q.ReimageNode(node="p-1")).arrive().exit(0)


def failed_while_emptied() -> Trail:
    """Preparation succeeds on a node that became unusable on its way to be emptied."""
    trail = Trail(job=a_job(prep=s.PreparationSpec(command_line="prepare", rerun_on_node_reboot_after_success=False))).arrive()
    trail.do(q.ReimageNode(node="p-1")).fail("unusable").do(r.ExecutionExited(execution=1, exit_code=0))
    trail.bring_back()
    return trail.arrive()


def rebooted_and_failed() -> Trail:
    """A task with one retry loses its node and then fails by itself."""
    return Trail(job=a_job(prep=False, constraints=retried(1))).arrive().do(q.RebootNode(node="p-1")).arrive().exit(1)


def terminated_while_rebooting() -> Trail:
    return Trail(job=a_job()).exit(0, 0).do(q.RebootNode(node="p-1"), TERMINATE)


def limited() -> Trail:
    constraints = s.TaskConstraints(max_wall_clock_time=1000 * SECOND)
    trail = Trail(job=PLAIN, tasks=(s.TaskSpec(id="t", command_line="work", constraints=constraints),)).arrive()
    trail.take(decide.ClockAdvanced())
    return trail


def every_mark_opens_every_scope() -> AbstractContextManager[None]:
    return swapped(release, "_WIDTH", {"taskRan": 0, "prepared": 0, "attempted": 0})


def a_completed_release_is_owed_again() -> AbstractContextManager[None]:
    def owe(of: world.World, event: e.ReleaseCompleted) -> None:
        of.jobs[event.job].owed[event.node] = of.jobs[event.job].payable[event.node] = None

    return fold(e.ReleaseCompleted, owe)


def deleting_runs_releases_again() -> AbstractContextManager[None]:
    def wrong(right: Any, of: world.World, found: world.Job) -> Iterator[e.Event]:
        for node_id in found.releases if found.ended_at is not None else ():
            yield execution.request(of, "release", found.id, "jobrelease", node_id, 2)
        yield from right(of, found)

    return around(job, "_end", wrong)


def releases_do_not_wait_for_tasks() -> AbstractContextManager[None]:
    def wrong(right: Any, of: world.World, found: world.Job) -> Iterator[e.Event]:
        if found.owed:
            yield from release.pay(of, found)
        yield from right(of, found)

    return around(job, "_end", wrong)


def jobs_end_at_once() -> AbstractContextManager[None]:
    def wrong(_right: Any, _of: world.World, found: world.Job) -> Iterator[e.Event]:
        yield e.JobCompleted(job=found.id)

    return around(job, "_end", wrong)


def preparation_everywhere() -> AbstractContextManager[None]:
    def wrong(right: Any, of: world.World, found: world.Job, of_it: world.Task, chosen: Any) -> Iterator[e.Event]:
        for other in of.nodes:
            if other != chosen and preparation.needed(found, other):
                yield from preparation.start(of, found, other)
        yield from right(of, found, of_it, chosen)

    return around(placement, "_place", wrong)


def a_running_preparation_is_needed_again() -> AbstractContextManager[None]:
    return swapped(preparation, "needed", lambda of, chosen: of.preparations.get(chosen) is None or not of.preparations[chosen].succeeded)


@contextmanager
def tasks_are_placed_in_any_state() -> Iterator[None]:
    right = world.index_job

    def wrong(of: world.World, found: world.Job) -> None:
        state, found.state = found.state, "active"
        right(of, found)
        found.state = state

    with swapped(world, "index_job", wrong), swapped(job, "index_job", wrong):
        yield


def retries_without_end() -> AbstractContextManager[None]:
    return swapped(task, "_retries_left", lambda *_: True)


def a_lost_node_costs_a_retry() -> AbstractContextManager[None]:
    def wrong(_right: Any, _world: Any, of: world.Job, found: world.Task, *_: Any) -> Iterator[e.Event]:
        yield e.TaskRetried(job=of.id, task=found.spec.id, exit_code=143, failure=ended_failure("the node was lost"))

    return around(task, "_taken", wrong)


def requeues_are_folded_as_retries() -> AbstractContextManager[None]:
    def more(of: world.World, event: e.TaskRequeued) -> None:
        of.jobs[event.job].tasks[event.task].retries += 1

    return fold(e.TaskRequeued, more)


def releases_always_succeed() -> AbstractContextManager[None]:
    return around(release, "_completed", lambda right, of, where, code, _failure: right(of, where, code, None))


def releases_run_on_nodes_that_reboot() -> AbstractContextManager[None]:
    return swapped(release, "is_payable", lambda _: True)


def scheduling_is_ignored() -> AbstractContextManager[None]:
    return swapped(world, "takes_tasks", lambda found: found.state in {"idle", "running"})


def start_tasks_are_not_waited_for() -> AbstractContextManager[None]:
    def wrong(right: Any, of: world.World, found: world.Node) -> Iterator[e.Event]:
        for event in right(of, found):
            yield e.NodeIdle(node=found.id) if isinstance(event, e.NodeAwaitingStartTask) else event

    return around(node, "_joined", wrong)


@contextmanager
def slots_are_not_counted() -> Iterator[None]:
    def wrong(of: world.World, found: world.Node) -> None:
        held, found.slots = found.slots, 0
        world.index_node(of, found)
        found.slots = held

    with swapped(task, "index_node", wrong), swapped(node, "index_node", wrong):
        yield


def a_requeued_task_keeps_its_slot() -> AbstractContextManager[None]:
    return fold(e.TaskRequeued, lambda of, event: of.nodes["p-1"].tasks.setdefault((event.job, event.task), None))


def reboots_keep_the_incarnation() -> AbstractContextManager[None]:
    def wrong(right: Any, of: world.World, request: Any) -> Iterator[e.Event]:
        for event in right(of, request):
            yield attrs.evolve(event, incarnation=event.incarnation - 1) if isinstance(event, e.NodeRebooting) else event

    return around(node, "on_request", wrong)


def numbers_are_used_again() -> AbstractContextManager[None]:
    def back(of: world.World, _event: e.ExecutionRequested) -> None:
        of.next_execution = 1

    return fold(e.ExecutionRequested, back)


def stale_reports_are_believed() -> AbstractContextManager[None]:
    def wrong(right: Any, of: world.World, report: Any) -> Iterator[e.Event]:
        if isinstance(report, r.ExecutionExited) and report.execution not in of.executions:
            yield e.ExecutionEnded(
                execution=report.execution, job="j", task="t", node="p-1", exit_code=report.exit_code, signal=None, stopped=False, wall=None
            )
        yield from right(of, report)

    return around(decide, "_on_report", wrong)


def tasks_name_another_execution() -> AbstractContextManager[None]:
    def wrong(right: Any, *arguments: Any) -> Iterator[e.Event]:
        for event in right(*arguments):
            yield attrs.evolve(event, execution=event.execution + 7) if isinstance(event, e.TaskRunning) else event

    return around(placement, "_place", wrong)


def stops_are_repeated() -> AbstractContextManager[None]:
    def wrong(right: Any, of: world.Execution, *wish: Any) -> Iterator[e.Event]:
        of = attrs.evolve(of, stop=None)
        yield from right(of, *wish)

    return around(execution, "stop", wrong)


def limits_come_early() -> AbstractContextManager[None]:
    return around(deadlines, "due", lambda right, of, now: right(of, now + 3600 * SECOND))


def running_nodes_begin_to_run() -> AbstractContextManager[None]:
    def wrong(_right: Any, _of: world.World, found: world.Node) -> Iterator[e.Event]:
        if found.tasks:
            yield e.NodeRunning(node=found.id)

    return around(node, "load_rule", wrong)


def success_may_be_repeated() -> AbstractContextManager[None]:
    return around(task, "reactivate", lambda _right, _of, request: iter([e.TaskReactivated(job=request.job, task=request.task)]))


CATALOGUE = [
    Planted(
        name="a release where no task ran",
        caught_by="release_only_within_its_scope",
        bug=every_mark_opens_every_scope,
        script=terminated_while_preparing,
    ),
    Planted(name="a release after it completed", caught_by="release_completes_once", bug=a_completed_release_is_owed_again, script=to_the_end),
    Planted(name="a release again at deletion", caught_by="release_never_after_completion", bug=deleting_runs_releases_again, script=to_the_end),
    Planted(
        name="a release before the last task ended",
        rare=True,
        caught_by="release_comes_last",
        bug=releases_do_not_wait_for_tasks,
        script=terminated_while_running,
    ),
    Planted(
        name="a task before the one that it depends on",
        caught_by="dependencies_come_first",
        bug=lambda: swapped(dependencies, "is_satisfied", lambda *_: True),
        script=lambda: Trail(job=a_job(uses_task_dependencies=True), nodes=2, tasks=("t1", depending("t2", "t1"))),
    ),
    Planted(
        name="no preparation after a node was reimaged",
        rare=True,
        caught_by="preparation_before_task",
        bug=lambda: swapped(preparation, "spoil", lambda *_, **__: iter(())),
        script=reimaged,
    ),
    Planted(
        name="no preparation after a node failed while it was to be emptied",
        rare=True,
        caught_by="preparation_before_task",
        bug=lambda: swapped(node, "_begin_anew", lambda *_, **__: iter(())),
        script=failed_while_emptied,
    ),
    Planted(
        name="a task beside the preparation it waits for",
        caught_by="preparation_before_task",
        bug=lambda: swapped(preparation, "awaited", lambda *_: False),
        script=lambda: Trail(job=a_job()),
    ),
    Planted(
        name="a node is used although preparation failed there",
        rare=True,
        caught_by="failed_preparation_bars_the_node",
        bug=lambda: fold(e.PreparationCompleted, lambda of, event: of.jobs[event.job].ineligible.clear()),
        script=lambda: Trail(job=a_job()).exit(1),
    ),
    Planted(
        name="preparation on every node of the pool",
        caught_by="preparation_only_where_a_task_is_placed",
        bug=preparation_everywhere,
        script=lambda: Trail(nodes=2, job=a_job()),
    ),
    Planted(name="a preparation for each task", caught_by="one_preparation_at_a_time", bug=a_running_preparation_is_needed_again, script=two_tasks),
    Planted(
        name="tasks of a disabled job are placed",
        rare=True,
        caught_by="starts_only_while_active",
        bug=tasks_are_placed_in_any_state,
        script=lambda: Trail(job=PLAIN, tasks=("t1", "t2")).arrive().do(q.DisableJob(job="j", disable_tasks="wait")).exit(0),
    ),
    Planted(
        name="a job is completed while its preparation runs",
        caught_by="nothing_lives_when_a_job_ends",
        bug=jobs_end_at_once,
        script=lambda: (
            Trail(job=a_job(prep=s.PreparationSpec(command_line="prepare", wait_for_success=False), release=False), slots=2)
            .arrive()
            .do(r.ExecutionExited(execution=2, exit_code=0), TERMINATE)
        ),
    ),
    Planted(
        name="a job is completed and owes a release",
        caught_by="nothing_is_owed_when_a_job_ends",
        bug=jobs_end_at_once,
        script=lambda: Trail(job=a_job()).exit(0, 0).do(TERMINATE),
    ),
    Planted(
        name="a job is completed with a task in its queue",
        caught_by="no_task_is_left_when_a_job_ends",
        bug=jobs_end_at_once,
        script=lambda: Trail(nodes=0, boot=False, job=a_job()).do(TERMINATE),
    ),
    Planted(
        name="a launch for a job that was deleted",
        caught_by="a_job_that_is_gone_runs_nothing",
        script=to_the_end,
        doctor=after(e.ExecutionRequested(execution=100, kind="task", job="j", task="t", node="p-1", attempt=1)),
    ),
    Planted(
        name="retries without end",
        rare=True,
        caught_by="tries_within_retries",
        bug=retries_without_end,
        script=lambda: Trail(job=a_job(prep=False, constraints=retried(1))).exit(1, 1),
    ),
    Planted(
        name="a reboot is counted as a retry by the rule",
        caught_by="retries_count_only_failed_programs",
        bug=a_lost_node_costs_a_retry,
        script=rebooted_and_failed,
    ),
    Planted(
        name="a reboot is counted as a retry by the fold",
        rare=True,
        caught_by="retries_are_granted",
        bug=requeues_are_folded_as_retries,
        script=rebooted_and_failed,
    ),
    Planted(
        name="a failed release is recorded as a success",
        caught_by="results_are_what_was_seen",
        bug=releases_always_succeed,
        script=lambda: Trail(job=a_job()).exit(0, 0).do(TERMINATE).exit(1),
    ),
    Planted(
        name="a release on a node that is rebooting",
        caught_by="executions_live_only_on_nodes_that_are_up",
        bug=releases_run_on_nodes_that_reboot,
        script=terminated_while_rebooting,
    ),
    Planted(
        name="tasks on a node whose scheduling is disabled",
        rare=True,
        caught_by="disabled_scheduling_is_respected",
        bug=scheduling_is_ignored,
        script=lambda: (
            Trail(slots=2, job=PLAIN)
            .arrive()
            .do(q.DisableScheduling(node="p-1"), q.AddTasks(job="j", tasks=[s.TaskSpec(id="u", command_line="work")]))
        ),
    ),
    Planted(
        name="tasks before the start task succeeded",
        rare=True,
        caught_by="start_task_comes_first",
        bug=start_tasks_are_not_waited_for,
        script=lambda: Trail(start_task=s.StartTaskSpec(command_line="start"), job=PLAIN),
    ),
    Planted(
        name="the limit of parallel tasks is not heeded",
        caught_by="parallel_tasks_are_never_exceeded",
        bug=lambda: swapped(world, "may_place", lambda _: True),
        script=lambda: Trail(job=a_job(max_parallel_tasks=1), slots=2, tasks=("t1", "t2")).exit(0, 0),
    ),
    Planted(name="slots are not counted", caught_by="slots_are_never_exceeded", bug=slots_are_not_counted, script=lambda: two_tasks(slots=1)),
    Planted(
        name="a requeued task keeps its slot",
        caught_by="slots_are_held_by_tasks_alone",
        bug=a_requeued_task_keeps_its_slot,
        script=rebooted_and_failed,
    ),
    Planted(
        name="a reboot under the old incarnation",
        caught_by="incarnations_grow",
        bug=reboots_keep_the_incarnation,
        script=lambda: Trail().do(q.RebootNode(node="p-1")),
    ),
    Planted(name="numbers of executions are used again", caught_by="execution_numbers_grow", bug=numbers_are_used_again, script=two_tasks),
    Planted(
        name="a stale report is believed",
        caught_by="an_execution_has_one_outcome",
        bug=stale_reports_are_believed,
        script=lambda: Trail(job=PLAIN).exit(0).do(r.ExecutionExited(execution=1, exit_code=1)),
    ),
    Planted(
        name="a task names another execution",
        caught_by="what_runs_names_its_execution",
        bug=tasks_name_another_execution,
        script=lambda: Trail(job=PLAIN),
    ),
    Planted(
        name="a stop is repeated",
        rare=True,
        caught_by="a_stop_only_grows",
        bug=stops_are_repeated,
        script=lambda: Trail(job=PLAIN).arrive().do(q.TerminateTask(job="j", task="t"), q.TerminateTask(job="j", task="t")),
    ),
    Planted(name="a limit an hour early", rare=True, caught_by="no_limit_comes_early", bug=limits_come_early, script=limited),
    Planted(
        name="a running node begins to run",
        caught_by="only_moves_of_the_tables",
        bug=running_nodes_begin_to_run,
        script=lambda: Trail(slots=2, job=PLAIN, tasks=("t1", "t2")).exit(0).do(q.AddTasks(job="j", tasks=[s.TaskSpec(id="u", command_line="work")])),
    ),
    Planted(
        name="a task that succeeded runs again",
        caught_by="what_ended_stays_ended",
        bug=success_may_be_repeated,
        script=lambda: Trail(job=PLAIN).exit(0).do(q.ReactivateTask(job="j", task="t")),
    ),
    Planted(
        name="a change that the fold forgets",
        rare=True,
        caught_by="the_world_follows_the_events",
        bug=lambda: fold(e.JobDisabling, instead=True),
        script=lambda: Trail(job=PLAIN).do(q.DisableJob(job="j", disable_tasks="wait")),
    ),
    Planted(
        name="a completed release is owed again",
        caught_by="what_ended_stays_ended",
        script=lambda: Trail(job=a_job()).exit(0, 0).do(q.TerminateJob(job="j")).exit(0),
        doctor=lambda events: [*events[:-1], e.ReleaseOwed(job="j", node="p-1")],
    ),
    Planted(
        name="a node boots while something lives there",
        caught_by="executions_live_only_on_nodes_that_are_up",
        script=lambda: Trail(job=PLAIN).arrive(),
        doctor=after(e.NodeRebooting(node="p-1", incarnation=2, cause="?"), e.NodeStarting(node="p-1"), e.NodeBooted(node="p-1", boot_id="b")),
    ),
]
