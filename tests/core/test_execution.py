"""Executions: the rules of `core/execution.py`, and what an executor is told to run."""

import pytest

from jobledger.core import execution as executions
from jobledger.core.commands import RunPreparation, RunRelease, RunStartTask, RunTask, StopExecution
from jobledger.core.errors import ImpossibleEvent
from jobledger.core.events import ExecutionConfirmed, ExecutionEnded, ExecutionRequested, ExecutionStopRequested
from jobledger.core.limits import STOP_GRACE
from jobledger.core.owed import commands
from jobledger.core.reports import ExecutionExited, ExecutionLost, ExecutionNotStarted, ExecutionStarted
from jobledger.core.requests import DeleteTask, DisableJob, RebootNode, TerminateJob, TerminateTask
from jobledger.core.specs import AutoUserSpecification, EnvironmentSetting, PreparationSpec, ReleaseSpec, StartTaskSpec, TaskSpec, UserIdentity
from jobledger.testing.scenario import Hangs, Silent, story


def of_type(s, kind):
    return [event for event in s.events if isinstance(event, kind)]


def test_a_number_is_never_used_twice(given):
    s = given(nodes=2, tasks=("a", "b", "c"), script={"a": Hangs()})
    s.run()
    s.finish(RebootNode(node="p-1"))
    s.finish(TerminateJob(job="j"))
    numbers = [event.execution for event in of_type(s, ExecutionRequested)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert s.world.next_execution == len(numbers) + 1


def test_an_intent_is_recorded_before_its_command_exists(given):
    s = given()
    assert story(s.events)[-4:-2] == ["execution.requested jobpreparation p-1", "preparation.started p-1"]
    assert [type(command) for command in commands(s.world).values()] == [RunPreparation]


def test_a_seen_start_is_recorded_once_with_its_pid(given):
    s = given(script={"jobpreparation": Silent()})
    s.run()
    s.when(ExecutionStarted(execution=1, pid=77))
    s.ignores(ExecutionStarted(execution=1, pid=78))
    execution = s.world.executions[1]
    assert (execution.state, execution.pid, execution.started_at) == ("running", 77, s.now - 1)


def test_an_end_is_recorded_in_full(given):
    s = given(script={"jobpreparation": Hangs()})
    s.run()
    s.when(ExecutionExited(execution=1, exit_code=137, signal=9, stopped=False, wall=1234, leftover=(5, 6)))
    [ended] = of_type(s, ExecutionEnded)
    assert (ended.exit_code, ended.signal, ended.stopped, ended.wall, ended.leftover) == (137, 9, False, 1234, (5, 6))
    assert (ended.job, ended.task, ended.node) == ("j", "jobpreparation", "p-1")


@pytest.mark.parametrize(
    "last_word",
    [
        lambda: ExecutionExited(execution=1, exit_code=0),
        lambda: ExecutionNotStarted(execution=1),
        lambda: ExecutionLost(execution=1, reason="gone"),
    ],
)
def test_exactly_one_outcome_ends_it_and_every_later_word_decides_to_nothing(given, last_word):
    s = given(script={"jobpreparation": Silent(), "t1": Hangs()})
    s.run()
    s.when(last_word())
    assert 1 not in s.world.executions
    for late in (
        ExecutionStarted(execution=1),
        ExecutionExited(execution=1, exit_code=1),
        ExecutionNotStarted(execution=1),
        ExecutionLost(execution=1, reason="late"),
    ):
        s.ignores(late)


def test_of_one_that_was_seen_to_start_it_is_not_believed_that_it_never_ran(given):
    s = given(script={"jobpreparation": Hangs()})
    s.run()
    s.ignores(ExecutionNotStarted(execution=1))
    assert s.world.executions[1].state == "running"


def test_a_start_that_is_seen_after_the_stop_was_asked_for_is_recorded(given):
    s = given(script={"jobpreparation": Silent()})
    s.run()
    s.when(TerminateJob(job="j"))
    assert story(s.when(ExecutionStarted(execution=1))) == ["execution.confirmed jobpreparation p-1"]
    assert [type(command) for command in commands(s.world).values()] == [StopExecution]


def test_a_stop_is_a_wish_beside_the_state(given):
    s = given(script={"t1": Hangs()})
    s.run()
    s.when(TerminateTask(job="j", task="t1"))
    execution = s.world.executions[s.live("task")]
    assert (execution.state, execution.stop.then, execution.stop.cause) == ("running", "complete", "the task was terminated")
    assert s.world.task("j", "t1").state == "running"


def test_a_later_stop_may_only_be_stronger(given):
    s = given(script={"t1": Hangs()})
    s.run()
    s.when(DisableJob(job="j", disable_tasks="requeue"))
    s.when(TerminateTask(job="j", task="t1"))
    s.when(DeleteTask(job="j", task="t1"))
    s.ignores(TerminateTask(job="j", task="t1"))
    assert story(s.when(RebootNode(node="p-1"))) == ["node.rebooting p-1"]
    assert [event.then for event in of_type(s, ExecutionStopRequested)] == ["requeue", "complete", "delete"]
    assert s.world.executions[s.live("task")].stop.then == "delete"


def test_a_stop_command_gives_the_grace(given):
    s = given(script={"t1": Hangs()})
    s.run()
    s.when(TerminateTask(job="j", task="t1"))
    assert list(commands(s.world).values()) == [StopExecution(execution=2, pool="p", node="p-1", grace=STOP_GRACE, upload=True)]


def test_an_event_about_an_execution_that_does_not_live_is_impossible(given):
    s = given()
    with pytest.raises(ImpossibleEvent, match="execution 99 is not live"):
        s.given(ExecutionConfirmed(execution=99, job="j", task="t1", node="p-1", pid=None))


# --- what is launched -----------------------------------------------------------------------------------------


def test_a_launch_carries_the_merged_environment_and_the_preparations_id(given):
    def env(**settings):
        return tuple(EnvironmentSetting(name=name, value=value) for name, value in settings.items())

    s = given(
        prep=PreparationSpec(id="prep", command_line="prepare", environment_settings=env(A="prep")),
        release=ReleaseSpec(id="rel", command_line="release", environment_settings=env(A="rel")),
        tasks=(TaskSpec(id="t1", command_line="work", environment_settings=env(A="task", C="own")),),
        common_environment_settings=env(A="common", B="common"),
    )
    s.run()
    s.finish(TerminateJob(job="j"))
    seen = {
        launch.task: (launch.command_line, {item.name: item.value for item in launch.environment}, launch.preparation)
        for launch in s.executor.launched
    }
    assert seen == {
        "prep": ("prepare", {"A": "prep", "B": "common"}, None),
        "t1": ("work", {"A": "task", "B": "common", "C": "own"}, "prep"),
        "rel": ("release", {"A": "rel", "B": "common"}, "prep"),
    }


def test_a_job_without_preparation_names_none(given):
    s = given(prep=False)
    s.run()
    [launch] = s.executor.launched
    assert (launch.preparation, launch.pool, launch.node, launch.job, launch.attempt) == (None, "p", "p-1", "j", 1)


@pytest.mark.parametrize(
    ("script", "kind", "command"),
    [
        ({"starttask": Hangs()}, "starttask", RunStartTask),
        ({"jobpreparation": Hangs()}, "preparation", RunPreparation),
        ({"t1": Hangs()}, "task", RunTask),
        ({"jobrelease": Hangs()}, "release", RunRelease),
    ],
)
def test_a_running_execution_can_be_described_again_for_recognition(given, script, kind, command):
    s = given(pool={"start_task": StartTaskSpec(command_line="start")}, script=script)
    s.run()
    if kind == "release":
        s.finish(TerminateJob(job="j"))
    execution = s.world.executions[s.live(kind)]
    again = executions.run_command(s.world, execution)
    assert type(again) is command
    assert again.launch == next(launch for launch in s.executor.launched if launch.execution == execution.id)


def test_each_command_line_runs_as_its_own_user(given):
    ann, root = UserIdentity(username="ann"), UserIdentity(auto_user=AutoUserSpecification(elevation_level="admin"))
    s = given(
        pool={"start_task": StartTaskSpec(command_line="start", user_identity=root)},
        prep=PreparationSpec(command_line="prepare", user_identity=ann),
        release=ReleaseSpec(command_line="release"),
        tasks=(TaskSpec(id="t1", command_line="work", user_identity=root), "t2"),
        on_all_tasks_complete="terminatejob",
    )
    s.run()
    users = {launch.task: launch.user for launch in s.executor.launched}
    assert users == {"starttask": root, "jobpreparation": ann, "t1": root, "t2": None, "jobrelease": None}
