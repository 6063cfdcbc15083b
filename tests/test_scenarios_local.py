"""The tricky scenarios of Azure Batch's semantics (section 8) where a process matters, by number, with the real local executor.

Programs say what they do in a file of their own, so that what is asserted is what ran and not what the ledger says of it.
`tests/core/test_scenarios.py` has the rules of all of them, `tests/test_scenarios.py` the list.
"""

import time
from collections import Counter

import pytest

from jobledger import (
    BlockingEngine,
    JobConstraints,
    JobId,
    JobSpec,
    NodeId,
    PoolId,
    PoolInfo,
    PoolSpec,
    PreparationSpec,
    ReleaseSpec,
    TaskConstraints,
    TaskId,
    TaskSpec,
)
from jobledger.core import requests as q
from jobledger.core.ids import SECOND, Duration
from jobledger.core.specs import ExitConditions, ExitOptions, OutputFile, OutputFileContainer, OutputFileDestination, ResourceFile
from jobledger.executors.local import LocalExecutor

BOUND_S = 30.0
JOB, POOL = JobId("j"), PoolId("p")
SHORT = Duration(SECOND // 2)


class Lab:
    """One engine with a pool `p` of local nodes, and programs that say what they do."""

    def __init__(self, folder):
        self.folder = folder
        executor = LocalExecutor(folder / "nodes", drain_grace=Duration(SECOND // 10), linger=Duration(0))
        self.engine = BlockingEngine(folder / "ledger.db", root=folder / "nodes", executors={"local": executor}, durability="relaxed")

    def pool(self, nodes=1, slots=1):
        self.engine.create_pool(PoolSpec(id=POOL, nodes=nodes, task_slots_per_node=slots))
        self.until(lambda world: sum(node.state == "idle" for node in world.nodes.values()) == nodes)

    def submit(self, *tasks, prep="true", release="true", job=JOB, **more):
        """A job with a preparation and a release that say `prep` and `release`, and tasks that say their ids; each then does what is given."""
        preparation, release_task = more.pop("preparation", {}), more.pop("release_task", {})
        spec = JobSpec(
            id=job,
            pool_info=PoolInfo(pool_id=POOL),
            job_preparation_task=PreparationSpec(command_line=self.says("prep", prep), **preparation),
            job_release_task=ReleaseSpec(command_line=self.says("release", release), **release_task) if release else None,
            **more,
        )
        self.engine.submit(spec, [self.task_spec(task) for task in tasks])

    def task_spec(self, task):
        """A task from a specification, from its name, or from its name and what it does."""
        if isinstance(task, TaskSpec):
            return task
        return self.task(*task) if isinstance(task, tuple) else self.task(task, "true")

    def task(self, name, then, **more):
        return TaskSpec(id=TaskId(name), command_line=self.says(name, then), **more)

    def says(self, what, then):
        """A command line that says `what` in the name of its job and node, and goes on with `then`; `WAIT` is for `go`, `HANG` for ever."""
        then = then.replace("WAIT", f"for i in $(seq 1000); do test -e {self.folder}/go && break; sleep 0.02; done").replace(
            "HANG", "exec sleep 1000"
        )
        return f"/bin/sh -c 'echo {what} $AZ_BATCH_JOB_ID $AZ_BATCH_NODE_ID >> {self.folder}/said; {then}'"

    def said(self, job="j"):
        """How often each thing was said by a job, in any order."""
        lines = [line.split() for line in (self.folder / "said").read_text().splitlines()] if (self.folder / "said").exists() else []
        return Counter(f"{what}@{node}" for what, of, node in lines if of == job)

    def order(self):
        """What was said, in order."""
        return [line.split()[0] for line in (self.folder / "said").read_text().splitlines()]

    def until(self, condition):
        self.engine.until(condition, timeout_s=BOUND_S)

    def until_said(self, what, times=1):
        """Wait until the job's programs have said it on any nodes; nothing announces that."""
        deadline = time.monotonic() + BOUND_S
        while sum(count for said, count in self.said().items() if said.startswith(f"{what}@")) < times:
            assert time.monotonic() < deadline, f"{what} was not said {times} times, only: {self.said()}"
            time.sleep(0.01)

    def ask(self, request):
        self.engine.request(request)

    def finish(self, reason="done"):
        """Terminate the job and wait for its end."""
        self.engine.terminate(JOB, reason)
        self.engine.wait(JOB, timeout_s=BOUND_S)

    def until_complete(self):
        self.until(lambda world: world.jobs[JOB].counts["completed"] == len(world.jobs[JOB].tasks))

    def read(self, look):
        return self.engine.read(lambda world: look(world.jobs[JOB]))

    def task_of(self, name):
        return self.read(lambda job: (job.tasks[name].state, job.tasks[name].result, job.tasks[name].exit_code, job.tasks[name].retries))


@pytest.fixture
def lab(tmp_path):
    opened = Lab(tmp_path)
    yield opened
    try:
        for left in opened.engine.read(lambda world: [job.id for job in world.jobs.values() if job.state not in {"completed", "deleting"}]):
            opened.engine.delete(left)
        opened.until(lambda world: not world.executions)
    finally:
        opened.engine.close()


# --- preparation ----------------------------------------------------------------------------------------------


def test_02_preparation_and_release_run_only_where_a_task_ran(lab):
    lab.pool(nodes=5)
    lab.submit("a", "b", "c")
    lab.until_complete()
    lab.finish()
    said = lab.said()
    nodes = {one.partition("@")[2] for one in said if one[0] in "abc"}
    assert {one.partition("@")[2] for one in said if one.startswith("prep@")} == nodes
    assert {one.partition("@")[2] for one in said if one.startswith("release@")} == nodes
    assert set(said.values()) == {1}


def test_03_four_tasks_at_once_share_one_preparation(lab):
    lab.pool(slots=4)
    lab.submit(*"abcd", prep="WAIT")
    lab.until(lambda world: world.jobs[JOB].counts["preparing"] == 4)
    lab.until_said("prep")
    (lab.folder / "go").touch()
    lab.until_complete()
    assert lab.order()[0] == "prep"
    assert lab.said() == Counter({f"{what}@p-1": 1 for what in ("prep", *"abcd")})


def test_05_preparation_fails_on_one_node_and_the_tasks_move_to_the_other(lab):
    lab.pool(nodes=2)
    lab.submit("a", "b", "c", prep="test $AZ_BATCH_NODE_ID != p-1")
    lab.until_complete()
    said = lab.said()
    assert {one: said[one] for one in said if one[0] in "abc"} == {"a@p-2": 1, "b@p-2": 1, "c@p-2": 1}
    lab.finish()
    assert [one for one in lab.said() if one.startswith("release")] == ["release@p-2"]


def test_06_preparation_that_nobody_waits_for_fails_and_tasks_run_on(lab):
    lab.pool()
    lab.submit("a", "b", prep="exit 3", preparation={"wait_for_success": False})
    lab.until_complete()
    assert lab.read(lambda job: job.preparations["p-1"].exit_code) == 3
    assert lab.said()["a@p-1"] == lab.said()["b@p-1"] == 1


def test_07_preparation_succeeds_at_its_third_try(lab):
    lab.pool()
    tries = f"echo x >> {lab.folder}/tries; test $(wc -l < {lab.folder}/tries) = 3"
    lab.submit("a", prep=tries, preparation={"constraints": TaskConstraints(max_task_retry_count=2)})
    lab.until_complete()
    assert lab.order() == ["prep", "prep", "prep", "a"]
    assert lab.read(lambda job: job.preparations["p-1"].retries) == 2


def test_08_a_preparation_without_its_resource_file_is_not_retried_and_bars_the_node(lab):
    lab.pool()
    lab.submit("a", preparation={"resource_files": missing_file(lab), "constraints": TaskConstraints(max_task_retry_count=5)})
    lab.until(lambda world: world.jobs[JOB].blocked)
    preparation = lab.read(lambda job: job.preparations["p-1"])
    assert (preparation.state, preparation.result, preparation.exit_code, preparation.retries) == ("completed", "failure", None, 0)
    assert (preparation.failure.code, lab.said()) == ("BlobNotFound", Counter())


def test_09_preparation_over_its_limit_is_killed_and_not_retried(lab):
    lab.pool()
    lab.submit("a", prep="HANG", preparation={"constraints": TaskConstraints(max_wall_clock_time=SHORT, max_task_retry_count=5)})
    lab.until(lambda world: world.jobs[JOB].blocked)
    assert lab.said() == Counter({"prep@p-1": 1})


def test_10_a_preparation_that_hangs_keeps_tasks_preparing_until_the_job_is_ended(lab):
    lab.pool()
    lab.submit("a", prep="HANG")
    lab.until_said("prep")
    assert lab.task_of("a")[0] == "preparing"
    lab.finish()
    assert (lab.said(), lab.task_of("a")[:2]) == (Counter({"prep@p-1": 1}), ("completed", "failure"))


def test_12_a_reboot_while_preparation_runs_runs_it_again(lab):
    lab.pool()
    lab.submit("a", prep="WAIT", preparation={"rerun_on_node_reboot_after_success": False})
    lab.until_said("prep")
    lab.ask(q.RebootNode(node=NodeId("p-1")))
    lab.until_said("prep", 2)
    (lab.folder / "go").touch()
    lab.until_complete()
    assert lab.order() == ["prep", "prep", "a"]
    assert lab.read(lambda job: job.preparations["p-1"].retries) == 0


@pytest.mark.parametrize(("rerun", "runs"), [(True, 2), (False, 1)])
def test_13_14_after_a_reboot_preparation_runs_again_if_the_flag_says_so(lab, rerun, runs):
    lab.pool()
    lab.submit("a", preparation={"rerun_on_node_reboot_after_success": rerun})
    lab.until_complete()
    reboot(lab, q.RebootNode)
    lab.engine.add_tasks(JOB, [lab.task("b", "true")])
    lab.until_complete()
    assert lab.said()["prep@p-1"] == runs


def test_16_after_a_reimage_preparation_runs_again_and_its_files_are_gone(lab):
    lab.pool()
    lab.submit("a", prep="touch $AZ_BATCH_NODE_SHARED_DIR/x", preparation={"rerun_on_node_reboot_after_success": False})
    lab.until_complete()
    assert list((lab.folder / "nodes").rglob("x"))
    reboot(lab, q.ReimageNode)
    assert not list((lab.folder / "nodes").rglob("x"))
    lab.engine.add_tasks(JOB, [lab.task("b", "test -e $AZ_BATCH_NODE_SHARED_DIR/x")])
    lab.until_complete()
    assert (lab.task_of("b")[1], lab.said()["prep@p-1"]) == ("success", 2)


def test_17_a_reimaged_node_without_a_later_task_is_not_released(lab):
    lab.pool()
    lab.submit("a")
    lab.until_complete()
    reboot(lab, q.ReimageNode)
    lab.finish()
    assert lab.order() == ["prep", "a"]


def test_18_a_reimage_after_a_failed_preparation_makes_the_node_eligible(lab):
    lab.pool()
    lab.submit("a", prep=f"test -e {lab.folder}/go")
    lab.until(lambda world: world.jobs[JOB].blocked)
    (lab.folder / "go").touch()
    reboot(lab, q.ReimageNode)
    lab.until_complete()
    assert lab.order() == ["prep", "prep", "a"]


def test_19_a_node_that_joins_later_prepares_with_its_first_task(lab):
    lab.pool()
    lab.submit(("a", "WAIT"), ("b", "true"))
    lab.until_said("a")
    lab.ask(q.ResizePool(pool=POOL, target=2))
    lab.until_said("b")
    (lab.folder / "go").touch()
    lab.finish()
    assert lab.said() == Counter({f"{what}@p-1": 1 for what in ("prep", "a", "release")} | {f"{what}@p-2": 1 for what in ("prep", "b", "release")})


# --- the end of a job -----------------------------------------------------------------------------------------


def test_20_terminate_while_preparation_runs_stops_it_and_runs_no_release(lab):
    lab.pool()
    lab.submit("a", prep="HANG")
    lab.until_said("prep")
    lab.finish()
    assert lab.order() == ["prep"]
    assert lab.read(lambda job: (job.preparations["p-1"].result, job.preparations["p-1"].failure.code)) == ("failure", "TaskEnded")


def test_21_terminate_while_a_task_is_preparing_runs_release_only_where_the_scope_asks_for_it(lab):
    lab.pool()
    lab.submit("a", prep="HANG", release_task={"release_scope": "attempted"})
    lab.until_said("prep")
    lab.finish()
    assert lab.order() == ["prep", "release"]


def test_25_deleting_an_active_job_ends_its_tasks_and_releases_and_then_it_is_gone(lab):
    lab.pool()
    lab.submit(("a", "HANG"))
    lab.until_said("a")
    lab.engine.delete(JOB)
    lab.until(lambda world: JOB not in world.jobs)
    assert lab.order() == ["prep", "a", "release"]


def test_26_27_delete_after_terminate_or_while_terminating_releases_no_second_time(lab):
    lab.pool()
    lab.submit("a", release="WAIT")
    lab.until_complete()
    lab.engine.terminate(JOB, "done")
    lab.until_said("release")
    lab.engine.delete(JOB)
    (lab.folder / "go").touch()
    lab.until(lambda world: JOB not in world.jobs)
    lab.submit("a")
    lab.until_complete()
    lab.finish()
    lab.engine.delete(JOB)
    lab.until(lambda world: JOB not in world.jobs)
    assert lab.order() == ["prep", "a", "release"] * 2


def test_29_a_failing_release_is_not_retried_and_the_job_completes(lab):
    lab.pool()
    lab.submit("a", release="exit 4")
    lab.until_complete()
    lab.finish()
    assert (lab.said()["release@p-1"], lab.read(lambda job: job.releases["p-1"].exit_code)) == (1, 4)


def test_30_a_release_over_its_limit_is_killed_and_the_job_completes(lab):
    lab.pool()
    lab.submit("a", release="HANG", release_task={"max_wall_clock_time": SHORT})
    lab.until_complete()
    lab.finish()
    assert (lab.said()["release@p-1"], lab.read(lambda job: job.releases["p-1"].failure.code)) == (1, "TaskEnded")


def test_33_a_reboot_during_release_runs_it_again(lab):
    lab.pool()
    lab.submit("a", release="WAIT")
    lab.until_complete()
    lab.engine.terminate(JOB, "done")
    lab.until_said("release")
    lab.ask(q.DisableScheduling(node=NodeId("p-1")))
    lab.ask(q.EnableScheduling(node=NodeId("p-1")))
    lab.ask(q.RebootNode(node=NodeId("p-1")))
    lab.until_said("release", 2)
    (lab.folder / "go").touch()
    lab.engine.wait(JOB, timeout_s=BOUND_S)
    assert lab.read(lambda job: job.releases["p-1"].result) == "success"


@pytest.mark.parametrize("when", ["34: before the end", "35: while release runs"])
def test_34_35_a_node_that_is_removed_is_not_released_and_holds_nothing_up(lab, when):
    lab.pool(nodes=2)
    lab.submit(("a", "sleep 0.2"), ("b", "sleep 0.2"), release="test $AZ_BATCH_NODE_ID = p-2 || exec sleep 1000")
    lab.until_complete()
    if when.startswith("35"):
        lab.engine.terminate(JOB, "done")
        lab.until_said("release", 2)
    lab.ask(q.RemoveNode(node=NodeId("p-1")))
    lab.until(lambda world: "p-1" not in world.nodes)
    if when.startswith("34"):
        lab.engine.terminate(JOB, "done")
    lab.engine.wait(JOB, timeout_s=BOUND_S)
    assert lab.read(lambda job: (job.releases["p-1"].state, job.releases["p-2"].result)) == ("abandoned", "success")
    assert "p-1" in lab.read(lambda job: list(job.preparations))


def test_41_the_jobs_limit_passes_while_preparation_runs(lab):
    lab.pool()
    lab.submit("a", prep="HANG", constraints=JobConstraints(max_wall_clock_time=Duration(SECOND)))
    lab.engine.wait(JOB, timeout_s=BOUND_S)
    assert (lab.order(), lab.read(lambda job: job.terminate_reason)) == (["prep"], "MaxWallClockTimeExpiry")


# --- tasks ----------------------------------------------------------------------------------------------------


def test_38_disable_with_requeue_and_enable_reruns_tasks_but_not_preparation(lab):
    lab.pool()
    lab.submit(("a", "WAIT"))
    lab.until_said("a")
    lab.engine.disable(JOB, "requeue")
    lab.until(lambda world: world.jobs[JOB].state == "disabled")
    assert "release@p-1" not in lab.said()
    (lab.folder / "go").touch()
    lab.engine.enable(JOB)
    lab.until_complete()
    assert lab.order() == ["prep", "a", "a"]


def test_39_disable_with_terminate_ends_tasks_for_good(lab):
    lab.pool()
    lab.submit(("a", "HANG"))
    lab.until_said("a")
    lab.engine.disable(JOB, "terminate")
    lab.until(lambda world: world.jobs[JOB].state == "disabled")
    lab.engine.enable(JOB)
    lab.until(lambda world: world.jobs[JOB].state == "active")
    assert (lab.order(), lab.read(lambda job: job.tasks["a"].failure.code)) == (["prep", "a"], "TaskEnded")


def test_44_a_task_that_exits_3_with_a_retry_left_runs_again(lab):
    lab.pool()
    lab.submit(("a", "exit 3"), constraints=JobConstraints(max_task_retry_count=1))
    lab.until_complete()
    assert (lab.order(), lab.task_of("a")) == (["prep", "a", "a"], ("completed", "failure", 3, 1))


def test_45_a_task_without_its_resource_file_has_failed_and_is_not_retried(lab):
    lab.pool()
    task = lab.task("a", "true", resource_files=missing_file(lab), constraints=TaskConstraints(max_task_retry_count=5))
    lab.submit(task)
    lab.until_complete()
    assert (lab.task_of("a"), lab.read(lambda job: job.tasks["a"].failure.code)) == (("completed", "failure", None, 0), "BlobNotFound")
    assert lab.order() == ["prep"]


def test_46_minus_one_and_always_failing_goes_on_until_it_is_ended(lab):
    lab.pool()
    lab.submit(("a", "exit 3"), constraints=JobConstraints(max_task_retry_count=-1))
    lab.until_said("a", 10)
    lab.finish()
    assert lab.task_of("a")[1] == "failure"
    assert lab.read(lambda job: job.tasks["a"].retries) >= 9


def test_47_a_reboot_under_a_task_runs_it_again_without_a_retry(lab):
    lab.pool()
    lab.submit(("a", "WAIT"))
    lab.until_said("a")
    lab.ask(q.RebootNode(node=NodeId("p-1")))
    lab.until_said("a", 2)
    (lab.folder / "go").touch()
    lab.until_complete()
    assert lab.task_of("a") == ("completed", "success", 0, 0)


def test_48_a_failed_task_is_reactivated_and_runs_again(lab):
    lab.pool()
    lab.submit(("a", f"test -e {lab.folder}/go"))
    lab.until_complete()
    (lab.folder / "go").touch()
    lab.ask(q.ReactivateTask(job=JOB, task=TaskId("a")))
    lab.until_complete()
    assert (lab.order(), lab.task_of("a")) == (["prep", "a", "a"], ("completed", "success", 0, 0))


def test_52_two_jobs_on_one_node_prepare_and_release_each_for_itself(lab):
    lab.pool(slots=2)
    lab.submit("a", job=JobId("other"))
    lab.submit("a")
    lab.until(lambda world: all(job.counts["completed"] for job in world.jobs.values()))
    lab.finish()
    assert (lab.said()["release@p-1"], lab.said("other")["release@p-1"]) == (1, 0)
    lab.engine.terminate(JobId("other"))
    lab.engine.wait(JobId("other"), timeout_s=BOUND_S)
    assert lab.said() == lab.said("other") == Counter({"prep@p-1": 1, "a@p-1": 1, "release@p-1": 1})


def test_56_an_output_that_cannot_be_uploaded_makes_a_task_fail_that_exited_with_0(lab):
    lab.pool()
    nowhere = OutputFileDestination(container=OutputFileContainer(container_url=f"{lab.folder}/no/such/folder"))
    conditions = ExitConditions(file_upload_error=ExitOptions(job_action="terminate"))
    task = lab.task("a", "echo x > out", output_files=(OutputFile(file_pattern="out", destination=nowhere),), exit_conditions=conditions)
    lab.submit(task, constraints=JobConstraints(max_task_retry_count=5), on_task_failure="performexitoptionsjobaction")
    lab.engine.wait(JOB, timeout_s=BOUND_S)
    assert lab.task_of("a") == ("completed", "failure", 0, 0)
    assert lab.read(lambda job: (job.tasks["a"].failure.code, job.terminate_reason)) == ("FileUploadContainerNotFound", "TaskFailed")


def missing_file(lab):
    return (ResourceFile(http_url=f"file://{lab.folder}/nothing-here", file_path="input"),)


def reboot(lab, request):
    """Reboot or reimage the node and wait until it is up as its next incarnation."""
    before = lab.engine.read(lambda world: world.nodes["p-1"].incarnation)
    lab.ask(request(node=NodeId("p-1")))
    lab.until(lambda world: world.nodes["p-1"].incarnation > before and world.nodes["p-1"].state in {"idle", "running"})
