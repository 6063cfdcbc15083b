"""The plan as a shell script, run by a real shell: what it does is what the local executor did."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobledger import BlockingEngine, EnvironmentSetting, JobSpec, PoolInfo, PoolSpec, TaskConstraints, TaskSpec, jobfile
from jobledger.core.requests import CreatePool, SubmitJob, TerminateTask
from jobledger.core.secrecy import SEALED_PREFIX
from jobledger.core.specs import (
    ApplicationPackageReference,
    AutoUserSpecification,
    FinalizerSpec,
    PreparationSpec,
    ReleaseSpec,
    ResourceFile,
    StartTaskSpec,
    UserIdentity,
)
from jobledger.eventstore import open_store
from jobledger.plan import plan_of
from jobledger.planscript import script
from jobledger.testing.ledgers import ledger_of
from jobledger.testing.scenario import Exits, Hangs, Scenario, Vanishes

TOP = Path(__file__).parents[1]
SHOW = "/bin/sh -c 'env | grep -v -e ^PWD= -e ^OLDPWD= -e ^SHLVL= -e ^_= -e ^JOBLEDGER_ -e ^HIDDEN= | sort; pwd; echo oops >&2'"
BOUND_S = 60


def run_script(text, folder, *, env=None, cwd=None):
    """Run a script of the plan below a folder, with only this environment beside PATH."""
    path = folder.parent / "plan.sh"
    path.write_text(text, encoding="utf-8")
    variables = {"PATH": os.environ["PATH"], **(env or {})}
    return subprocess.run(["/bin/sh", str(path), str(folder)], env=variables, cwd=cwd, capture_output=True, text=True, timeout=BOUND_S, check=False)


def files_below(folder):
    """What lies below a folder of nodes, by path: the content of files, None for folders; what the executor has there for itself is left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        parts = name.split("/")
        if not any(part in {"executions", "boot", ".control", ".aside"} for part in parts):
            found[name] = path.read_text() if path.is_file() else None
    return found


def scripted(*tasks, script=None, pool=None, finish=None, **more):
    """The plan of a job whose programs end as `script` says."""
    s = Scenario(script)
    s.finish(CreatePool(spec=PoolSpec(**{"id": "p", **(pool or {})})))
    s.when(SubmitJob(spec=JobSpec(**{"id": "j", "pool_info": PoolInfo(pool_id="p"), "on_all_tasks_complete": "terminatejob", **more}), tasks=tasks))
    s.run()
    if finish is not None:
        s.finish(finish)
    return plan_of(ledger_of(s.log), "j")


def secret(name, digit="a"):
    return EnvironmentSetting(name=name, value=SEALED_PREFIX + digit * 64, secret=True)


# --- against the local executor -------------------------------------------------------------------------------


def test_the_script_of_the_sample_job_does_what_the_run_did(tmp_path):
    job_file = jobfile.load(str(TOP / "examples" / "job_prep_release.yaml"))
    with BlockingEngine(tmp_path / "ledger.db", root=tmp_path / "nodes") as engine:
        engine.create_pool(job_file.pool)
        engine.submit(job_file.job, job_file.tasks)
        engine.wait(job_file.job.id, timeout_s=BOUND_S)
    store = open_store(tmp_path / "ledger.db", read_only=True)
    text = script(plan_of(store, job_file.job.id))
    store.close()
    done = run_script(text, tmp_path / "out")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    real, scripted_files = files_below(tmp_path / "nodes"), files_below(tmp_path / "out")
    assert scripted_files == real
    assert sum(name.endswith("stdout.txt") for name in real) == 12


def test_command_lines_get_the_folders_and_variables_that_the_local_executor_gives_them(tmp_path, monkeypatch):
    """Every kind of execution shows its environment and working folder, here and there."""
    for name in [name for name in os.environ if name != "PATH"]:
        monkeypatch.delenv(name)
    odd = EnvironmentSetting(name="odd.name", value='it\'s "$HOME" `id` \\ \n*')
    job = JobSpec(
        id="j",
        pool_info=PoolInfo(pool_id="p"),
        on_all_tasks_complete="terminatejob",
        common_environment_settings=(EnvironmentSetting(name="MODE", value="common"), odd, EnvironmentSetting(name="AZ_BATCH_OURS", value="no")),
        job_preparation_task=PreparationSpec(command_line=SHOW),
        job_release_task=ReleaseSpec(command_line=SHOW),
        job_finalizer_task=FinalizerSpec(command_line=SHOW),
    )
    tasks = [TaskSpec(id="t1", command_line=SHOW, environment_settings=(EnvironmentSetting(name="MODE", value="own"),))]
    with BlockingEngine(tmp_path / "ledger.db", root=tmp_path / "nodes") as engine:
        engine.create_pool(PoolSpec(id="p", start_task=StartTaskSpec(command_line=SHOW)))
        engine.submit(job, tasks)
        engine.wait("j", timeout_s=BOUND_S)
    store = open_store(tmp_path / "ledger.db", read_only=True)
    plan = plan_of(store, "j")
    store.close()
    done = run_script(script(plan), tmp_path / "out", env={"AZ_BATCH_TASK_ID": "of another task", "JOBLEDGER_EXECUTION": "7"})
    assert (done.returncode, done.stderr) == (0, "")
    told = {name: content.replace(str(tmp_path / "nodes"), "ROOT") for name, content in files_below(tmp_path / "nodes").items() if content}
    again = {name: content.replace(str(tmp_path / "out"), "ROOT") for name, content in files_below(tmp_path / "out").items() if content}
    assert again == told
    assert len(plan.rows) == 5
    assert sum("AZ_BATCH_TASK_WORKING_DIR=ROOT/" in content for content in told.values()) == 5
    shown = told["p/p-1/workitems/j/job-1/t1/stdout.txt"]
    assert "MODE=own\n" in shown
    assert "AZ_BATCH_OURS" not in shown
    assert "AZ_BATCH_JOB_PREP_DIR=ROOT/p/p-1/workitems/j/job-1/jobpreparation\n" in shown


# --- any text -------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
NASTY = st.sampled_from(["", "$HOME", "`id`", "$(id)", "'", '"', "\\", "\n", "*", "~", "#", "-n", "a b", "\r", "\x1b[2J", "!", "=", "${x:?}"])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True, database=None)
@given(words=st.lists(TEXT | NASTY, min_size=1, max_size=4), values=st.lists(TEXT | NASTY, max_size=3))
def test_every_text_comes_through_the_shell_as_it_is(tmp_path, words, values):
    names = [f"VALUE_{number}" for number in range(len(values))]
    code = f"import json,os,sys; json.dump([sys.argv[1:], [os.environ[n] for n in {names!r}]], open('seen', 'w'))"
    line = " ".join(quoted(word) for word in ["python3", "-c", code, *words])
    environment = tuple(EnvironmentSetting(name=name, value=value) for name, value in zip(names, values, strict=True))
    plan = scripted(TaskSpec(id="t", command_line=line, environment_settings=environment))
    done = run_script(script(plan), tmp_path / "out", env={"PYTHONUTF8": "1", "LC_ALL": "C.UTF-8"})
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "out/p/p-1/workitems/j/job-1/t/wd/seen").read_text()) == [words, values]


def quoted(word):
    """A word of a command line."""
    return "'" + word.replace("'", "'\"'\"'") + "'"


def test_what_users_wrote_is_one_line_in_comments(tmp_path):
    evil = "x\ntouch /tmp/never\r\x1b[2J"
    plan = scripted(
        TaskSpec(id="t1", command_line=f"true '{evil}'", resource_files=(ResourceFile(http_url="http://x/" + evil, file_path=evil),)),
        TaskSpec(id="t2", command_line=f"true '{evil}'"),
        script={"t2": [Vanishes(reason=evil), Exits(0)]},
    )
    text = script(plan)
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert sum("touch" in line for line in comments) == 3
    assert "\x1b" not in "".join(comments)
    assert run_script(text, tmp_path / "out").returncode == 0


def test_a_program_with_an_equals_sign_is_a_program(tmp_path):
    (tmp_path / "a=b").write_text('#!/bin/sh\necho ran "$@"\n')
    (tmp_path / "a=b").chmod(0o755)
    plan = scripted(TaskSpec(id="t", command_line=f"'{tmp_path}/a=b' 'x  y'"))
    assert run_script(script(plan), tmp_path / "out").returncode == 0
    assert (tmp_path / "out/p/p-1/workitems/j/job-1/t/stdout.txt").read_text() == "ran x  y\n"


# --- how it goes on and ends ----------------------------------------------------------------------------------


def test_it_ends_at_the_first_that_fails_and_did_not_fail_in_the_plan(tmp_path):
    plan = scripted(*(TaskSpec(id=f"t{number}", command_line=f"/bin/sh -c 'exit {number}'") for number in (0, 7, 8)))
    done = run_script(script(plan), tmp_path / "out")
    assert done.returncode == 7
    assert done.stderr == f"task t7 on p-1 ended with exit status 7, and succeeded in the plan: its output is below {tmp_path}/out\n"
    assert not (tmp_path / "out/p/p-1/workitems/j/job-1/t8").exists()


def test_a_program_that_is_not_there_ends_it_too(tmp_path):
    done = run_script(script(scripted(TaskSpec(id="t", command_line="/no/such/program"))), tmp_path / "out")
    assert done.returncode == 127


def test_what_failed_in_the_plan_may_end_as_it_likes_and_its_retry_begins_with_an_empty_folder(tmp_path):
    tries = TaskConstraints(max_task_retry_count=1)
    plan = scripted(TaskSpec(id="t", command_line="/bin/sh -c 'ls; touch left; exit 5'", constraints=tries), script={"t": Exits(5)})
    assert [row.outcome for row in plan.rows] == ["failed", "failed"]
    done = run_script(script(plan), tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out/p/p-1/workitems/j/job-1/t/stdout.txt").read_text() == ""
    assert (tmp_path / "out/p/p-1/workitems/j/job-1/t/wd/left").exists()


def test_what_did_not_end_by_itself_is_told_of_and_not_run(tmp_path):
    plan = scripted(TaskSpec(id="t", command_line="sleep 1000"), script={"t": Hangs()}, finish=TerminateTask(job="j", task="t"))
    text = script(plan)
    assert [row.outcome for row in plan.rows] == ["stopped"]
    assert "#   not run here: sleep 1000\n" in text
    assert run_script(text, tmp_path / "out").returncode == 0


def test_what_it_does_not_do_is_said(tmp_path):
    files = (ResourceFile(http_url="http://127.0.0.1/words", file_path="words.txt"),)
    package = ApplicationPackageReference(application_id="tool", version="1.0", url="http://127.0.0.1/tool.zip")
    plan = scripted(
        TaskSpec(id="t1", command_line=SHOW, resource_files=files, user_identity=UserIdentity(username="ann")),
        TaskSpec(id="t2", command_line=SHOW, user_identity=UserIdentity(auto_user=AutoUserSpecification())),
        pool={"application_package_references": (package,)},
    )
    text = script(plan)
    assert "#   not fetched: words.txt from http://127.0.0.1/words\n" in text
    assert "#   meant to run as another user: ann\n" in text
    assert "#   meant to run as another user: autoUser\n" in text
    assert run_script(text, tmp_path / "out").returncode == 0
    shown = (tmp_path / "out/p/p-1/workitems/j/job-1/t1/stdout.txt").read_text()
    assert f"AZ_BATCH_APP_PACKAGE_tool_1_0={tmp_path}/out/p/p-1/applications/tool.1.0." in shown


# --- the folder -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["with space", "-", "-n", "new\nline\n", "a'b", "$HOME", "a/b/c"])
def test_any_folder_will_do(tmp_path, name):
    text = script(scripted(TaskSpec(id="t", command_line="/bin/sh -c 'echo \"$AZ_BATCH_TASK_DIR\"'")))
    (tmp_path / "plan.sh").write_text(text)
    done = subprocess.run(["/bin/sh", "plan.sh", name], cwd=tmp_path, env={"PATH": os.environ["PATH"], "CDPATH": "/"}, timeout=BOUND_S, check=False)
    assert done.returncode == 0
    folder = tmp_path / name / "p/p-1/workitems/j/job-1/t"
    assert (folder / "stdout.txt").read_text() == f"{folder}\n"


@pytest.mark.parametrize("arguments", [[], ["a", "b"]])
def test_without_one_folder_it_does_nothing(tmp_path, arguments):
    (tmp_path / "plan.sh").write_text(script(scripted(TaskSpec(id="t", command_line="true"))))
    done = subprocess.run(["/bin/sh", "plan.sh", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=BOUND_S, check=False)
    assert (done.returncode, done.stderr) == (2, "usage: sh SCRIPT FOLDER\n")
    assert [path.name for path in tmp_path.iterdir()] == ["plan.sh"]


# --- secrets --------------------------------------------------------------------------------------------------


def test_a_secret_is_demanded_and_only_who_had_it_gets_it(tmp_path):
    look = "/bin/sh -c 'echo \"${TOKEN-none}\"'"
    plan = scripted(TaskSpec(id="with", command_line=look, environment_settings=(secret("TOKEN"),)), TaskSpec(id="without", command_line=look))
    text = script(plan)
    assert SEALED_PREFIX not in text
    done = run_script(text, tmp_path / "out")
    assert done.returncode != 0
    assert "TOKEN" in done.stderr
    assert not (tmp_path / "out").exists()
    assert run_script(text, tmp_path / "out", env={"TOKEN": "it's $HOME"}).returncode == 0
    outputs = {task: (tmp_path / f"out/p/p-1/workitems/j/job-1/{task}/stdout.txt").read_text() for task in ("with", "without")}
    assert outputs == {"with": "it's $HOME\n", "without": "none\n"}


def test_secrets_of_one_name_and_of_names_that_shells_have_are_told_apart(tmp_path):
    show = "env"  # Without a shell, which would not pass my-key on.
    plan = scripted(
        TaskSpec(id="t1", command_line=show, environment_settings=(secret("TOKEN"), secret("USER"), secret("my-key"))),
        TaskSpec(id="t2", command_line=show, environment_settings=(secret("TOKEN", "b"), secret("plan_root"))),
        common_environment_settings=(secret("AZ_BATCH_KEY"),),
    )
    text = script(plan)
    assert "AZ_BATCH_KEY" not in text
    values = {"TOKEN": "one", "TOKEN_2": "two", "SECRET_USER": "three", "my_key": "four", "SECRET_plan_root": "five"}
    for left_out in values:
        done = run_script(text, tmp_path / "none", env={name: value for name, value in values.items() if name != left_out})
        assert left_out in done.stderr
    assert run_script(text, tmp_path / "out", env=values).returncode == 0
    names = {setting.name for row in plan.rows for setting in row.what.environment_settings}
    shown = [(tmp_path / f"out/p/p-1/workitems/j/job-1/{task}/stdout.txt").read_text().splitlines() for task in ("t1", "t2")]
    first, second = ({line for line in lines if line.partition("=")[0] in names} for lines in shown)
    assert first == {"TOKEN=one", "USER=three", "my-key=four"}
    assert second == {"TOKEN=two", "plan_root=five"}
    assert f"AZ_BATCH_TASK_DIR={tmp_path}/out/p/p-1/workitems/j/job-1/t2" in shown[1]


# --- the same plan, the same script ---------------------------------------------------------------------------


def test_the_same_plan_makes_the_same_script():
    def make():
        return script(scripted(TaskSpec(id="t1", command_line="true"), TaskSpec(id="t2", command_line="true"), pool={"nodes": 2}))

    assert make() == make()
