"""Planted bugs in what becomes of tasks when something is asked of their node."""

from contextlib import AbstractContextManager

from planting import PLAIN, Planted, a_job, fold, swapped

from jobledger.core import drain, world
from jobledger.core import events as e
from jobledger.core import requests as q
from jobledger.core import specs as s
from jobledger.testing.trail import Trail

DRAIN = q.ReimageNode(node="p-1", option="taskcompletion")
MORE = q.AddTasks(job="j", tasks=(s.TaskSpec(id="u", command_line="work"),))


def drained_while_tasks_wait() -> Trail:
    return Trail(slots=2, job=PLAIN).arrive().do(DRAIN, MORE)


def drained_while_a_task_runs() -> Trail:
    return Trail(job=PLAIN).arrive().do(DRAIN)


def drained_while_a_release_runs() -> Trail:
    return Trail(job=a_job()).exit(0, 0).do(q.TerminateJob(job="j")).arrive().do(DRAIN)


def drained_while_a_release_is_due() -> Trail:
    """The last task of the draining node has ended, and the job's release waits for one on another node."""
    trail = Trail(nodes=2, job=a_job(), tasks=("t", "u")).exit(0).do(DRAIN, q.TerminateJob(job="j"))
    while trail.executor.queues.get("p-1"):
        trail.deliver("p-1")
    while trail.executor.reports:
        trail.report(0)
    return trail


def rebooted_with_terminate() -> Trail:
    return Trail(job=PLAIN).arrive().do(q.RebootNode(node="p-1", option="terminate")).arrive()


def draining_is_ignored() -> AbstractContextManager[None]:
    return swapped(world, "takes_tasks", lambda found: found.state in {"idle", "running"} and found.scheduling == "enabled")


def nothing_is_waited_for() -> AbstractContextManager[None]:
    return swapped(drain, "_is_occupied", lambda *_: False)


def tasks_alone_are_waited_for() -> AbstractContextManager[None]:
    return swapped(drain, "_is_occupied", lambda _, found: bool(found.tasks))


def what_lives_is_waited_for() -> AbstractContextManager[None]:
    return swapped(drain, "_is_occupied", lambda _, found: bool(found.tasks or found.live))


def terminate_is_forgotten() -> AbstractContextManager[None]:
    def forget(of: world.World, event: e.NodeRebooting) -> None:
        of.nodes[event.node].ends_tasks = False

    return fold(e.NodeRebooting, forget)


CATALOGUE = [
    Planted(
        name="tasks on a node that drains",
        rare=True,
        caught_by="draining_nodes_take_no_tasks",
        bug=draining_is_ignored,
        script=drained_while_tasks_wait,
    ),
    Planted(
        name="a drain that waits for nothing",
        caught_by="a_drain_waits_for_what_is_there",
        bug=nothing_is_waited_for,
        script=drained_while_a_task_runs,
    ),
    Planted(
        name="a drain that waits for no release",
        rare=True,
        caught_by="a_drain_waits_for_what_is_there",
        bug=tasks_alone_are_waited_for,
        script=drained_while_a_release_runs,
    ),
    Planted(
        name="a drain that does not wait for a release that is due",
        rare=True,
        caught_by="a_drain_waits_for_what_is_there",
        bug=what_lives_is_waited_for,
        script=drained_while_a_release_is_due,
    ),
    Planted(
        name="tasks are requeued instead of ended",
        rare=True,
        caught_by="terminated_tasks_do_not_run_again",
        bug=terminate_is_forgotten,
        script=rebooted_with_terminate,
    ),
]
