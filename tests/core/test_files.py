"""Files in the rules: what a launch is given, and what outputs that could not be uploaded mean."""

import attrs
import pytest

from jobledger.core.commands import RunRelease, RunTask
from jobledger.core.events import ExecutionEnded, TaskCompleted, TaskRetried
from jobledger.core.exits import options_for
from jobledger.core.failure import FailureInfo
from jobledger.core.owed import commands
from jobledger.core.reports import ExecutionExited
from jobledger.core.requests import TerminateJob, TerminateTask
from jobledger.core.specs import (
    ApplicationPackageReference,
    ExitCodeMapping,
    ExitCodeRangeMapping,
    ExitConditions,
    ExitOptions,
    OutputFile,
    OutputFileContainer,
    OutputFileDestination,
    PreparationSpec,
    ReleaseSpec,
    ResourceFile,
    StartTaskSpec,
    TaskConstraints,
    TaskSpec,
    package_variable,
)
from jobledger.testing.scenario import Exits, Hangs

NOT_THERE = "FileUploadContainerNotFound"
NOT_UPLOADED = FailureInfo(category="usererror", code=NOT_THERE, message="the outputs could not be uploaded")
INPUT = (ResourceFile(http_url="https://host/in", file_path="in"),)
OUTPUT = (OutputFile(file_pattern="*", destination=OutputFileDestination(container=OutputFileContainer(container_url="/out"))),)


def package(application="app", version="1", url="/app.zip"):
    return ApplicationPackageReference(application_id=application, version=version, url=url)


def task(**more):
    return TaskSpec(id="t1", command_line="work", output_files=OUTPUT, **more)


def launch_of(s, kind):
    (found,) = [command.launch for command in commands(s.world).values() if isinstance(command, kind)]
    return found


# --- launches -------------------------------------------------------------------------------------------------


def test_a_launch_has_its_files_and_its_pools_packages(given):
    pool = {"application_package_references": (package("tool"),), "start_task": StartTaskSpec(command_line="start", resource_files=INPUT)}
    own = package("own")
    s = given(pool=pool, tasks=(task(resource_files=INPUT, application_package_references=(own,)),), prep=False)
    launch = launch_of(s, RunTask)
    assert (launch.resource_files, launch.output_files, launch.packages) == (INPUT, OUTPUT, (package("tool"), own))
    launch = s.executor.launched[0]
    assert (launch.job, launch.resource_files, launch.output_files, launch.packages) == (None, INPUT, (), (package("tool"),))


def test_a_tasks_package_stands_for_the_pools_of_the_same_version(given):
    pool = {"application_package_references": (package("Tool", url="/pool.zip"), package("tool", version="2", url="/pool2.zip"))}
    own = package("tool", url="/own.zip")
    s = given(pool=pool, tasks=(task(application_package_references=(own,)),), prep=False)
    assert launch_of(s, RunTask).packages == (own, package("tool", version="2", url="/pool2.zip"))


def test_a_release_has_its_output_files(given):
    s = given(prep=PreparationSpec(command_line="prepare", resource_files=INPUT), release=ReleaseSpec(command_line="tidy", output_files=OUTPUT))
    s.run()
    s.when(TerminateJob(job="j"))
    assert launch_of(s, RunRelease).output_files == OUTPUT
    assert s.executor.launched[0].resource_files == INPUT


@pytest.mark.parametrize(
    ("application", "version", "variable"),
    [("blender", "2.7", "blender_2_7"), ("My-App", "1.0-rc", "my_app_1_0_rc"), ("app", None, "app")],
)
def test_the_variable_of_a_package(application, version, variable):
    assert package_variable(package(application, version)) == f"AZ_BATCH_APP_PACKAGE_{variable}"


# --- uploads that fail ----------------------------------------------------------------------------------------


def test_56_a_good_end_without_its_outputs_is_a_failure_and_not_retried(given):
    s = given(tasks=(task(constraints=TaskConstraints(max_task_retry_count=-1)),), script={"t1": Exits(0, upload=NOT_THERE)})
    s.run()
    found = s.world.task("j", "t1")
    assert (found.state, found.result, found.exit_code, found.retries, found.failure) == ("completed", "failure", 0, 0, NOT_UPLOADED)
    assert [event.upload_failure for event in s.events if isinstance(event, ExecutionEnded) and event.task == "t1"] == [NOT_UPLOADED]


def test_a_bad_end_is_retried_whatever_became_of_its_outputs(given):
    tries = [Exits(3, upload=NOT_THERE), Exits(0)]
    s = given(tasks=(task(constraints=TaskConstraints(max_task_retry_count=1)),), script={"t1": tries})
    s.run()
    assert [event.exit_code for event in s.events if isinstance(event, TaskRetried)] == [3]
    assert s.world.task("j", "t1").result == "success"


def test_a_bad_end_without_its_outputs_says_both(given):
    s = given(tasks=(task(),), script={"t1": Exits(3, upload=NOT_THERE)})
    s.run()
    failure = s.world.task("j", "t1").failure
    assert failure.code == "FailureExitCode"
    assert {detail.name: detail.value for detail in failure.details} == {
        "ExitCode": "3",
        "UploadFailure": "FileUploadContainerNotFound: the outputs could not be uploaded",
    }


def test_a_task_that_was_ended_stays_ended_and_says_that_its_outputs_are_missing(given):
    s = given(tasks=(task(),), script={"t1": Hangs()})
    s.run()
    s.when(TerminateTask(job="j", task="t1"))
    s.when(ExecutionExited(execution=s.live("task"), exit_code=143, signal=15, stopped=True, upload_failure=NOT_UPLOADED))
    failure = s.world.task("j", "t1").failure
    assert (failure.code, failure.details[-1].name) == ("TaskEnded", "UploadFailure")


def test_a_release_without_its_outputs_has_failed_and_the_job_completes(given):
    s = given(release=ReleaseSpec(command_line="tidy", output_files=OUTPUT), script={"jobrelease": Exits(0, upload=NOT_THERE)})
    s.run()
    s.finish(TerminateJob(job="j"))
    release = s.world.jobs["j"].releases["p-1"]
    assert (release.result, release.exit_code, release.failure, s.world.jobs["j"].state) == ("failure", 0, NOT_UPLOADED, "completed")


def test_a_preparation_has_no_outputs_whatever_an_executor_says(given):
    s = given(script={"jobpreparation": Exits(0, upload=NOT_THERE)})
    s.run()
    assert s.world.jobs["j"].preparations["p-1"].succeeded
    assert not [event for event in s.events if isinstance(event, ExecutionEnded) and event.upload_failure is not None]


# --- exit conditions ------------------------------------------------------------------------------------------

EXACT, RANGE, UPLOAD, DEFAULT = (ExitOptions(job_action=action) for action in ("none", "disable", "terminate", None))


@pytest.mark.parametrize(
    ("exit_code", "expected"),
    [(0, UPLOAD), (1, EXACT), (4, RANGE), (9, UPLOAD)],
)
def test_an_exit_code_comes_before_an_upload_and_that_before_the_default(exit_code, expected):
    conditions = ExitConditions(
        exit_codes=(ExitCodeMapping(code=1, exit_options=EXACT),),
        exit_code_ranges=(ExitCodeRangeMapping(start=3, end=5, exit_options=RANGE),),
        file_upload_error=UPLOAD,
        default=DEFAULT,
    )
    assert options_for(task(exit_conditions=conditions), exit_code, upload_failed=True) is expected
    without = attrs.evolve(conditions, file_upload_error=None)
    assert options_for(task(exit_conditions=without), exit_code, upload_failed=True) is (DEFAULT if expected is UPLOAD else expected)


@pytest.mark.parametrize(("upload_error", "state"), [(ExitOptions(job_action="none"), "active"), (None, "completed")])
def test_an_upload_that_failed_acts_on_the_job_as_its_conditions_say(given, upload_error, state):
    spec = task(exit_conditions=ExitConditions(file_upload_error=upload_error))
    s = given(tasks=(spec,), on_task_failure="performexitoptionsjobaction", script={"t1": Exits(0, upload=NOT_THERE)})
    s.run()
    assert s.world.jobs["j"].state == state
    (event,) = [event for event in s.events if isinstance(event, TaskCompleted)]
    assert event.dependency_action is None
