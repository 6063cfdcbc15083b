"""A node that fails while it is to be emptied: what happened on it meanwhile is gone with the rest when it boots."""

import pytest

from jobledger.core.reports import NodeFaulted, NodeReady
from jobledger.core.requests import CreatePool, DisableJob, ReimageNode, SubmitJob
from jobledger.core.specs import JobSpec, PoolInfo, PoolSpec, PreparationSpec, ReleaseSpec, TaskSpec
from jobledger.testing.scenario import Hangs, Scenario, story


def begin(script):
    """A job whose preparation outlives reboots, on one node; what hangs there is about to be emptied."""
    job = JobSpec(
        id="j",
        pool_info=PoolInfo(pool_id="p"),
        job_preparation_task=PreparationSpec(command_line="prepare", rerun_on_node_reboot_after_success=False),
        job_release_task=ReleaseSpec(command_line="release"),
        on_all_tasks_complete="terminatejob",
    )
    s = Scenario(script).given(CreatePool(spec=PoolSpec(id="p", nodes=1)))
    s.run()
    s.finish(SubmitJob(spec=job, tasks=(TaskSpec(id="t", command_line="work"),)))
    s.when(ReimageNode(node="p-1"))
    return s


def test_a_preparation_that_succeeds_while_its_node_fails_on_the_way_to_be_emptied_runs_again():
    s = begin({"jobpreparation": [Hangs()]})
    s.when(NodeFaulted(node="p-1", fault="unusable", reason="the disk is full"))
    s.answer("preparation", "exited")
    s.executor.script.clear()
    s.finish(NodeReady(node="p-1", boot_id="another"))
    assert s.launches() == ["jobpreparation@p-1", "jobpreparation@p-1", "t@p-1", "jobrelease@p-1"]


@pytest.mark.parametrize("fault", ["unusable", "lost"])
def test_a_release_that_is_owed_by_a_node_that_is_emptied_after_all_is_abandoned(fault):
    s = begin({"t": [Hangs()]})
    s.when(NodeFaulted(node="p-1", fault=fault, reason="it does not answer"))
    if fault == "unusable":
        s.answer("task", "stopped")
    s.when(DisableJob(job="j", disable_tasks="wait"))
    s.when(NodeReady(node="p-1", boot_id="another"))
    events = s.run()
    assert "release.abandoned p-1" in story(events)
    assert not s.world.jobs["j"].owed
