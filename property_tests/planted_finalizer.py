"""Planted bugs in the rules of finalizers."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import attrs
from planting import TERMINATE, Planted, a_job, around, swapped

from jobledger.core import drain, execution, finalizer, job, world
from jobledger.core import events as e
from jobledger.core import requests as q
from jobledger.core import specs as s
from jobledger.core.ids import ENGINE_HOST
from jobledger.testing.trail import Trail


def final(*, node: Any = None, **more: Any) -> s.JobSpec:
    return a_job(job_finalizer_task=s.FinalizerSpec(command_line="finalize", node_id=node), **more)


def to_the_finish() -> Trail:
    """The whole life of a job with preparation, release and finalizer, and its deletion."""
    return Trail(job=final()).exit(0, 0).do(TERMINATE).exit(0, 0).do(q.DeleteJob(job="j"))


def finished_while_running() -> Trail:
    """What is owed to the engine's host arrives before what is owed to the node."""
    trail = Trail(job=final(prep=False)).arrive().do(TERMINATE)
    if trail.executor.queues.get(ENGINE_HOST):
        trail.deliver(ENGINE_HOST)
    return trail.arrive()


def finished_without_a_task(node: Any = None) -> Trail:
    return Trail(job=final(prep=False, node=node), tasks=()).do(TERMINATE)


def back_while_finishing() -> Trail:
    """A node that could not run its release comes back while the finalizer runs."""
    trail = Trail(job=final()).exit(0, 0).fail("unusable").do(TERMINATE).arrive()
    trail.bring_back()
    return trail.arrive()


def finalizers_do_not_wait() -> AbstractContextManager[None]:
    def wrong(right: Any, of: world.World, found: world.Job) -> Iterator[e.Event]:
        if not finalizer.running(found):
            yield from finalizer.run(of, found)
        yield from right(of, found)

    return around(job, "_end", wrong)


def abandoned_releases_are_made_up_for() -> AbstractContextManager[None]:
    def wrong(right: Any, of: world.World, found: world.Job) -> Iterator[e.Event]:
        for node_id, release in found.releases.items() if finalizer.running(found) else ():
            if release.state == "abandoned" and of.nodes[node_id].state == "idle":
                yield execution.request(of, "release", found.id, "jobrelease", node_id, 1)
        yield from right(of, found)

    return around(job, "_end", wrong)


def completed_finalizers_are_not_settled() -> AbstractContextManager[None]:
    return swapped(finalizer, "settled", lambda of: of.spec.job_finalizer_task is None)


def deleting_runs_finalizers_again() -> AbstractContextManager[None]:
    def wrong(right: Any, of: world.World, found: world.Job) -> Iterator[e.Event]:
        if found.ended_at is not None and found.finalizer is not None:
            yield execution.request(of, "finalizer", found.id, "jobfinalizer", found.finalizer.node, 2)
        yield from right(of, found)

    return around(job, "_end", wrong)


def finalizers_run_on_a_node() -> AbstractContextManager[None]:
    def wrong(right: Any, of: world.World, kind: Any, *rest: Any) -> e.ExecutionRequested:
        event: e.ExecutionRequested = right(of, kind, *rest)
        up = [node.id for node in of.nodes.values() if node.state == "idle"]
        return attrs.evolve(event, node=up[0]) if kind == "finalizer" and up else event

    return around(execution, "request", wrong)


def finalizers_do_not_wait_for_their_node() -> AbstractContextManager[None]:
    return swapped(finalizer, "_is_up", lambda *_: True)


def drained_before_it_finished() -> Trail:
    """The node that was chosen is to be rebooted when nothing is left there, while a task of the job still has to end on another one."""
    return Trail(nodes=2, job=final(prep=False, node="p-2")).arrive().do(TERMINATE, q.RebootNode(node="p-2", option="taskcompletion")).arrive()


def drains_do_not_know_of_finalizers() -> AbstractContextManager[None]:
    return around(drain, "_is_occupied", lambda right, of, found: right(attrs.evolve(of, finalizing={}), found))


CATALOGUE = [
    Planted(
        name="a finalizer before the last task ended", caught_by="finalizer_comes_last", bug=finalizers_do_not_wait, script=finished_while_running
    ),
    Planted(
        name="a finalizer before the releases",
        caught_by="finalizer_comes_last",
        bug=finalizers_do_not_wait,
        script=lambda: Trail(job=final()).exit(0, 0).do(TERMINATE).exit(0),
    ),
    Planted(
        name="a release after the finalizer",
        rare=True,
        caught_by="no_release_follows_the_finalizer",
        bug=abandoned_releases_are_made_up_for,
        script=back_while_finishing,
    ),
    Planted(
        name="a finalizer after it completed", caught_by="finalizer_completes_once", bug=completed_finalizers_are_not_settled, script=to_the_finish
    ),
    Planted(
        name="a finalizer again at deletion", caught_by="finalizer_never_after_completion", bug=deleting_runs_finalizers_again, script=to_the_finish
    ),
    Planted(
        name="a finalizer on some node",
        caught_by="finalizer_runs_where_it_was_asked_to",
        bug=finalizers_run_on_a_node,
        script=finished_without_a_task,
    ),
    Planted(
        name="a finalizer that could run is abandoned",
        caught_by="finalizer_is_abandoned_only_with_its_node",
        bug=lambda: swapped(finalizer, "_cannot_run", lambda *_: "no wish to"),
        script=lambda: finished_without_a_task("p-1"),
    ),
    Planted(
        name="a finalizer on the engine's host is abandoned",
        caught_by="finalizer_is_abandoned_only_with_its_node",
        bug=lambda: swapped(finalizer, "_cannot_run", lambda *_: "no wish to"),
        script=finished_without_a_task,
    ),
    Planted(
        name="a drain that does not wait for the finalizer",
        rare=True,
        caught_by="a_drain_waits_for_what_is_there",
        bug=drains_do_not_know_of_finalizers,
        script=drained_before_it_finished,
    ),
    Planted(
        name="a job ends without its finalizer",
        caught_by="no_job_ends_without_its_finalizer",
        bug=lambda: swapped(finalizer, "settled", lambda _: True),
        script=finished_without_a_task,
    ),
    Planted(
        name="a finalizer on a node that is rebooting",
        rare=True,
        caught_by="executions_live_only_on_nodes_that_are_up",
        bug=finalizers_do_not_wait_for_their_node,
        script=lambda: Trail(job=final(prep=False, node="p-1"), tasks=()).do(q.RebootNode(node="p-1"), TERMINATE),
    ),
]
