"""Where environment settings stand in records, and which of them are sealed."""

import typing

import attrs
import pytest

from jobledger.core import commands, events, requests
from jobledger.core.ids import ExecutionId, JobId, NodeId, PoolId, TaskId
from jobledger.core.secrecy import digests_in, is_sealed, settings_in, unsealed_in, with_settings
from jobledger.core.specs import EnvironmentSetting, JobSpec, PoolInfo, PoolSpec, PreparationSpec, ReleaseSpec, StartTaskSpec, TaskSpec

SEALED = "hmac-sha256:" + 64 * "a"
PLAIN = EnvironmentSetting(name="PLAIN", value="p")


def secret(name, value=SEALED):
    return EnvironmentSetting(name=name, value=value, secret=True)


def whole_job(**more):
    return JobSpec(
        id=JobId("j"),
        pool_info=PoolInfo(pool_id=PoolId("p")),
        common_environment_settings=(PLAIN, secret("COMMON")),
        job_preparation_task=PreparationSpec(command_line="prepare", environment_settings=(secret("PREPARATION"),)),
        job_release_task=ReleaseSpec(command_line="release", environment_settings=(secret("RELEASE"),)),
        **more,
    )


def task(*settings):
    return TaskSpec(id=TaskId("t"), command_line="work", environment_settings=settings)


def pool(*settings):
    return PoolSpec(id=PoolId("p"), start_task=StartTaskSpec(command_line="start", environment_settings=settings))


def run(*settings):
    launch = commands.Launch(
        execution=ExecutionId(1), pool=PoolId("p"), node=NodeId("n"), job=None, task=TaskId("t"), attempt=1, command_line="x", environment=settings
    )
    return commands.RunStartTask(launch=launch)


def test_settings_are_found_wherever_they_stand():
    submit = requests.SubmitJob(spec=whole_job(), tasks=(task(secret("TASK")), task(PLAIN)))
    assert {setting.name for setting in settings_in(submit)} == {"PLAIN", "COMMON", "PREPARATION", "RELEASE", "TASK"}
    assert [setting.name for setting in settings_in(requests.CreatePool(spec=pool(secret("START"))))] == ["START"]
    assert [setting.name for setting in settings_in(run(PLAIN))] == ["PLAIN"]
    assert list(settings_in(requests.DeleteJob(job=JobId("j")))) == []
    assert list(settings_in("text")) == []


def mentions(kind):
    """Whether settings can be reached from a type, by another way than the one under test: the text of the annotations."""
    if not attrs.has(kind):
        return any(map(mentions, typing.get_args(kind)))
    hints = typing.get_type_hints(kind).values()
    return kind is EnvironmentSetting or any(map(mentions, hints))


@pytest.mark.parametrize("union", [events.Event, requests.Request, commands.Command])
def test_no_record_that_can_hold_settings_is_passed_over(union):
    found = {kind.__name__ for kind in typing.get_args(union) if mentions(kind)}
    known = {
        "PoolCreated",
        "JobCreated",
        "TaskAdded",
        "CreatePool",
        "SubmitJob",
        "AddTasks",
        "RunTask",
        "RunPreparation",
        "RunRelease",
        "RunFinalizer",
        "RunStartTask",
    }
    assert found <= known, "a new record holds settings: is it sealed on its way in, and are its secrets kept as long as they are needed?"


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (requests.SubmitJob(spec=whole_job(), tasks=(task(secret("TASK", "open")),)), "TASK"),
        (requests.SubmitJob(spec=whole_job()), None),
        (requests.AddTasks(job=JobId("j"), tasks=(task(), task(secret("TASK", "")))), "TASK"),
        (requests.CreatePool(spec=pool(secret("START", SEALED + "0"))), "START"),
        (events.TaskAdded(job=JobId("j"), task=TaskId("t"), spec=task(PLAIN)), None),
        (events.NodeIdle(node=NodeId("n")), None),
    ],
)
def test_a_plain_secret_is_named(record, name):
    assert unsealed_in(record) == name


def test_digests_are_those_of_sealed_secrets_only():
    other = SEALED[:-1] + "b"
    assert digests_in(task(secret("A"), secret("B"), secret("C", other), secret("D", "open"), EnvironmentSetting(name="E", value=SEALED))) == {
        SEALED,
        other,
    }


@pytest.mark.parametrize("value", ["", "hmac-sha256:", SEALED.upper(), SEALED + "\n", " " + SEALED, SEALED[:-1], SEALED.replace("a", "g")])
def test_what_only_looks_like_a_digest_is_none(value):
    assert is_sealed(SEALED)
    assert not is_sealed(value)


def test_settings_are_changed_wherever_they_stand_and_nothing_else_is():
    submit = requests.SubmitJob(spec=whole_job(), tasks=(task(PLAIN), task(secret("TASK"))))
    changed = with_settings(submit, lambda setting: attrs.evolve(setting, value="new") if setting.secret else setting)
    assert {setting.name for setting in settings_in(changed) if setting.value == "new"} == {"COMMON", "PREPARATION", "RELEASE", "TASK"}
    assert changed.tasks[0] is submit.tasks[0]
    assert with_settings(changed, lambda setting: attrs.evolve(setting, value=SEALED) if setting.secret else setting) == submit
    assert with_settings(submit, lambda setting: setting) is submit


def test_a_secret_is_not_printed():
    for record in (secret("TOKEN", "hunter2"), run(secret("TOKEN", "hunter2")), whole_job(display_name="x")):
        assert "hunter2" not in repr(record)
        assert "hunter2" not in str(record)
    assert repr(secret("TOKEN", "hunter2")) == "EnvironmentSetting(name='TOKEN', value=..., secret=True)"
    assert repr(PLAIN) == "EnvironmentSetting(name='PLAIN', value='p')"
