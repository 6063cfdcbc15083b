"""`jobledger run`: a job file in, a job run to its end, a summary and an exit status that scripts can trust."""

import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import sqlite3
import termios
from contextlib import closing
from pathlib import Path

import pytest

from jobledger import SqliteStore
from jobledger.core import events as e

EXAMPLE = Path(__file__).parents[2] / "examples" / "job_prep_release.yaml"
LEDGER = Path(".jobledger/ledger.db")


def events(kind=object):
    with closing(SqliteStore.open(LEDGER, read_only=True)) as store:
        return [recorded.event for recorded in store.read() if isinstance(recorded.event, kind)]


def launches():
    return [(event.kind, event.node) for event in events(e.ExecutionRequested)]


# --- from beginning to end ------------------------------------------------------------------------------------


def test_the_example_runs_and_the_same_file_again_only_reports(start, invoke, folder):
    process = start("run", EXAMPLE)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Job prep-release-sample is completed (AllTasksComplete): 8 tasks, 8 succeeded, 0 failed" in out
    nodes = re.findall(r"^(workstation-\d):\n  Preparation: exit 0\n  Tasks run:   (\d+)\n  Release:     exit 0$", out, re.MULTILINE)
    assert {node for node, _ in nodes} == {"workstation-1", "workstation-2"}
    assert sum(int(count) for _, count in nodes) == 8
    assert "\x1b" not in out + err  # plain lines: nobody looks at a terminal
    for line in (
        "job prep-release-sample: preparation started on workstation-1",
        "job prep-release-sample: release on workstation-2: success (exit 0)",
    ):
        assert line in err.splitlines()

    ran = {event.node for event in events(e.TaskRunning)}
    assert sorted(node for kind, node in launches() if kind == "release") == sorted(ran)
    assert sorted(node for kind, node in launches() if kind == "preparation") == sorted(ran)
    assert not list(folder.rglob("job_prep_and_release.txt"))  # release removed them

    before = launches()
    again = invoke("run", EXAMPLE)
    assert again.exit_code == 0
    assert again.stdout == out
    assert launches() == before


def test_one_json_document_tells_all(invoke, write):
    result = invoke("run", write("true", "sh -c 'exit 3'", prep="true", release="true"), "--json")
    assert (result.exit_code, result.stderr) == (1, "")
    told = json.loads(result.stdout)
    assert told["job"]["state"] == "completed"
    assert [task["executionInfo"]["exitCode"] for task in told["tasks"]] == [0, 3]
    (status,) = told["jobPreparationAndReleaseTaskStatus"]
    assert status["jobReleaseTaskExecutionInfo"]["exitCode"] == 0
    assert told["position"] > 20


def test_a_job_file_from_standard_input(invoke, write):
    assert invoke("run", "-", text=Path(write("true")).read_text()).exit_code == 0


def test_a_failing_task_is_named_and_the_status_is_1(invoke, write):
    result = invoke("run", write("true", "sh -c 'exit 7'", "no-such-program"))
    assert result.exit_code == 1
    assert "3 tasks, 1 succeeded, 2 failed" in result.stdout
    assert re.search(r"t2: FailureExitCode \(exit 7\): .+", result.stdout)
    assert re.search(r"t3: CommandProgramNotFound: .*no-such-program", result.stdout)


def test_a_failing_release_does_not_fail_the_job(invoke, write):
    result = invoke("run", write("true", prep="true", release="sh -c 'exit 5'"))
    assert result.exit_code == 0
    assert "  Release:     exit 5" in result.stdout


def test_the_finalizer_is_shown_and_one_that_fails_does_not_fail_the_job(invoke, write):
    result = invoke("run", write("true", job={"jobFinalizerTask": {"commandLine": "sh -c 'exit 5'"}}))
    assert result.exit_code == 0
    assert "Finalizer: exit 5 (on the engine's host)" in result.stdout.splitlines()
    shown = [line for line in result.stderr.splitlines() if "finalizer" in line]
    assert shown == ["job j: finalizer started on the engine's host", "job j: finalizer: failure (exit 5)"]


def test_a_finalizer_that_cannot_run_is_shown_as_abandoned(invoke, write):
    result = invoke("run", write("true", job={"jobFinalizerTask": {"commandLine": "true", "nodeId": "p-9"}}))
    assert result.exit_code == 0
    assert "Finalizer: abandoned (on p-9): there is no such node" in result.stdout.splitlines()
    assert "job j: finalizer abandoned: there is no such node" in result.stderr.splitlines()


def test_the_example_of_a_finalizer_tells_how_the_job_went(invoke, folder):
    result = invoke("run", EXAMPLE.with_name("finalizer.yaml"))
    assert result.exit_code == 1  # One of its tasks fails.
    assert "Finalizer: exit 0 (on the engine's host)" in result.stdout.splitlines()
    told = invoke("log", "finalizer-sample", "jobfinalizer").stdout
    assert told == "finalizer-sample has ended (AllTasksComplete): 2 tasks succeeded, 1 failed, 0 releases failed\n"


@pytest.mark.parametrize("option", ["noaction", None])
def test_a_job_that_does_not_end_by_itself_is_ended(invoke, write, option):
    job = {"onAllTasksComplete": option} if option else {}
    name = write("true", prep="true", release="true", job=job)
    if option is None:
        data = json.loads(Path(name).read_text())
        del data["job"]["onAllTasksComplete"]
        Path(name).write_text(json.dumps(data))
    result = invoke("run", name)
    assert result.exit_code == 0
    assert "all tasks are complete: ending the job" in result.stderr
    assert "  Release:     exit 0" in result.stdout


def test_a_job_is_left_active_if_asked_for(invoke, write):
    name = write("true", job={"onAllTasksComplete": "noaction"})
    result = invoke("run", name, "--leave-active")
    assert "Job j is active" in result.stdout
    assert not events(e.JobTerminating)
    assert invoke("run", name).exit_code == 0


def test_a_preparation_that_fails_everywhere_ends_the_job_and_says_why(invoke, write):
    result = invoke("run", write("true", "true", prep="sh -c 'exit 9'", release="true", pool={"nodes": 2}))
    assert result.exit_code == 1
    assert "the job preparation task failed on every node" in result.stderr
    assert "(PreparationFailed)" in result.stdout
    assert result.stdout.count("  Preparation: exit 9") == 2
    assert [kind for kind, _ in launches()] == ["preparation", "preparation"]


def test_a_start_task_that_fails_everywhere_ends_the_job(invoke, write):
    result = invoke("run", write("true", pool={"startTask": {"commandLine": "false", "waitForSuccess": True}}))
    assert result.exit_code == 1
    assert "no node of the pool can be used" in result.stderr


def test_the_commands_that_the_summary_names_find_what_it_tells_of(invoke, write):
    result = invoke("run", write("echo hello"), "--ledger", "my ledgers/l.db", "--root", "my nodes")
    for named in re.findall(r"\(jobledger (.+)\)$", result.stdout, re.MULTILINE):
        words = shlex.split(named.replace("<task>", "t1"))
        assert invoke(*words).exit_code == 0
        assert "hello" in invoke(*words).stdout


def test_quiet_says_nothing_but_the_summary(invoke, write):
    result = invoke("run", write("true", job={"onAllTasksComplete": "noaction"}), "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("\nJob j is completed")


def test_tasks_run_after_those_that_they_depend_on(invoke, folder):
    Path("job.yaml").write_text(
        """
        pool: {id: p, nodes: 2, taskSlotsPerNode: 2}
        job: {id: j, usesTaskDependencies: true, onAllTasksComplete: terminatejob}
        tasks:
        - {id: last, commandLine: "sh -c 'cat $AZ_BATCH_NODE_ROOT_DIR/../../../said > $AZ_BATCH_NODE_ROOT_DIR/../../../end'", dependsOn: {taskIds: [mid]}}
        - {id: mid, commandLine: "sh -c 'echo mid >> $AZ_BATCH_NODE_ROOT_DIR/../../../said'", dependsOn: {taskIdRanges: [{start: 1, end: 2}]}}
        - {id: "1", commandLine: "sh -c 'sleep 0.1; echo one >> $AZ_BATCH_NODE_ROOT_DIR/../../../said'"}
        - {id: "2", commandLine: "sh -c 'sleep 0.3; echo two >> $AZ_BATCH_NODE_ROOT_DIR/../../../said'"}
        """
    )
    result = invoke("run", "job.yaml")
    assert result.exit_code == 0, result.output
    assert (folder / ".jobledger/end").read_text().split() == ["one", "two", "mid"]


def test_a_job_that_disables_itself_says_how_to_go_on(start, invoke, folder, until):
    data = {
        "pool": {"id": "p"},
        "job": {"id": "j", "onTaskFailure": "performexitoptionsjobaction", "onAllTasksComplete": "terminatejob"},
        "tasks": [
            {"id": "a", "commandLine": "false", "exitConditions": {"default": {"jobAction": "disable"}}},
            {"id": "b", "commandLine": "true"},
        ],
    }
    Path("job.json").write_text(json.dumps(data))
    process = start("run", "job.json")
    until(lambda: LEDGER.exists() and events(e.JobDisabled), "the job to be disabled")
    assert invoke("enable", "j").exit_code == 0
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "`jobledger enable j` from another terminal" in err
    assert {event.task for event in events(e.TaskCompleted) if event.result == "success"} == {"b"}


def test_a_job_whose_tasks_wait_for_one_that_failed_is_ended(invoke):
    data = {
        "pool": {"id": "p"},
        "job": {"id": "j", "usesTaskDependencies": True, "onAllTasksComplete": "terminatejob"},
        "tasks": [{"id": "a", "commandLine": "false"}, {"id": "b", "commandLine": "true", "dependsOn": {"taskIds": ["a"]}}],
    }
    Path("job.json").write_text(json.dumps(data))
    result = invoke("run", "job.json")
    assert (result.exit_code, "(DependenciesNotSatisfied)" in result.stdout) == (1, True)
    assert {event.task for event in events(e.TaskRunning)} == {"a"}


def test_a_job_whose_task_waits_for_its_next_try_is_waited_for(invoke, folder):
    fails_once = f"/bin/sh -c 'test -e {folder}/tried || {{ touch {folder}/tried; exit 1; }}'"
    data = {
        "pool": {"id": "p"},
        "job": {"id": "j", "constraints": {"maxTaskRetryCount": 1, "retryDelay": "PT0.5S"}},
        "tasks": [{"id": "a", "commandLine": fails_once}],
    }
    Path("job.json").write_text(json.dumps(data))
    result = invoke("run", "job.json")
    assert (result.exit_code, "(AllTasksComplete)" in result.stdout) == (0, True)
    assert [type(event) for event in events((e.TaskRetried, e.TaskRetryDue))] == [e.TaskRetried, e.TaskRetryDue]


def test_nodes_whose_files_were_deleted_are_made_anew(invoke, write):
    assert invoke("run", write("true", job={"id": "before"}, name="before.json")).exit_code == 0
    shutil.rmtree(".jobledger/nodes")
    again = invoke("run", write("true", job={"id": "after"}, name="after.json"))
    assert again.exit_code == 0, again.output
    assert ["is gone" in event.cause for event in events(e.NodeReimaging)] == [True]


# --- what is refused ------------------------------------------------------------------------------------------


def test_another_specification_under_the_same_id_is_refused_with_the_difference(invoke, write):
    assert invoke("run", write("true", prep="true")).exit_code == 0
    before = events()
    result = invoke("run", write("false", prep="false", name="other.json"))
    assert result.exit_code == 3
    assert "refused (JobExists)" in result.stderr
    assert re.search(r"jobPreparationTask\.commandLine.*true.*false", result.stderr)
    assert re.search(r"task t1\.commandLine.*true.*false", result.stderr)
    result = invoke("run", write("true", prep="true", pool={"nodes": 7}, name="other.json"))
    assert (result.exit_code, "refused (PoolExists)" in result.stderr) == (3, True)
    assert re.search(r"nodes.*1.*7", result.stderr)
    driven = {e.EngineStarted, e.EngineStopped}
    assert [event for event in events() if type(event) not in driven] == [event for event in before if type(event) not in driven]


def test_a_broken_file_is_refused_with_all_mistakes_and_no_ledger_is_made(invoke, folder):
    Path("job.yaml").write_text("pool: {id: p, nodes: many}\njob: {id: a b, priorty: 3}\ntasks: [{id: t}, {id: t, commandLine: x}]\n")
    result = invoke("run", "job.yaml")
    assert result.exit_code == 2
    for mistake in ("pool.nodes", "job.id", "job.priorty", "priority", "tasks[0].commandLine"):
        assert mistake in result.stderr
    assert [path.name for path in folder.iterdir()] == ["job.yaml"]
    as_json = invoke("run", "job.yaml", "--json")
    assert json.loads(as_json.stderr)["error"]["code"] == "JobFileError"
    for name, text in [("none.yaml", "cannot be read"), (".", "cannot be read")]:
        result = invoke("run", name)
        assert (result.exit_code, text in result.stderr) == (2, True)
    assert not LEDGER.exists()


def test_a_pool_that_nobody_made_is_a_mistake_of_the_file(invoke, folder):
    Path("job.json").write_text('{"job": {"id": "j", "poolInfo": {"poolId": "elsewhere"}}, "tasks": []}')
    result = invoke("run", "job.json")
    assert result.exit_code == 2
    assert "no pool 'elsewhere'" in result.stderr


def test_a_damaged_ledger_is_not_driven(invoke, write, folder):
    name = write("true")
    assert invoke("run", name).exit_code == 0
    with closing(sqlite3.connect(LEDGER)) as damaging:
        damaging.executescript("DROP TRIGGER events_are_not_updated; UPDATE events SET actor = 'nobody' WHERE position = 7")
    result = invoke("run", name)
    assert result.exit_code == 4
    assert "position 7" in result.stderr
    LEDGER.write_bytes(b"this is no database, and long enough to be taken for one if nobody looks " * 100)
    result = invoke("run", name)
    assert (result.exit_code, str(LEDGER) in result.stderr) == (4, True)


# --- interrupts -----------------------------------------------------------------------------------------------


@pytest.fixture
def running(start, until, folder, write):
    """A real `run` whose task runs: the process, and the words that start it again."""
    name = write(
        f"sh -c 'echo $$ >> {folder}/ran; for i in $(seq 500); do sleep 0.02; test -e {folder}/go && break; done'",
        prep="true",
        release=f"sh -c 'echo $$ >> {folder}/released'",
    )

    def begin():
        process = start("run", name)
        until((folder / "ran").exists, "the task")
        until(lambda: events(e.TaskRunning), "the task's event")
        return process

    return begin, name


def test_ctrl_c_ends_the_job_in_good_order(running, folder):
    begin, _ = running
    process = begin()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Job j is completed (UserTerminate): 1 task, 0 succeeded, 1 failed" in out
    assert "  Release:     exit 0" in out
    assert "Ctrl-C again to detach" in err
    assert (folder / "released").read_text().count("\n") == 1


@pytest.mark.parametrize("how", ["two interrupts", "SIGTERM"])
def test_detaching_leaves_all_running_and_the_same_command_resumes(running, folder, until, lives, invoke, how):
    begin, name = running
    if how == "two interrupts":  # ... of which the first one must not end the task at once
        data = json.loads(Path(name).read_text())
        data["tasks"][0]["commandLine"] = data["tasks"][0]["commandLine"].replace("sh -c 'echo", 'sh -c \'trap "" TERM; echo')
        Path(name).write_text(json.dumps(data))
    process = begin()
    if how == "SIGTERM":
        process.send_signal(signal.SIGTERM)
    else:
        process.send_signal(signal.SIGINT)
        until(lambda: events(e.JobTerminating), "the end to begin")
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == (1 if how == "SIGTERM" else 130)
    assert (
        "detached; what runs goes on (1 program).  Resume with: jobledger run job.json --ledger .jobledger/ledger.db --root .jobledger/nodes" in err
    )
    assert "1 not ended" in out
    assert lives(int((folder / "ran").read_text()))
    assert isinstance(events()[-1], e.EngineStopped)

    (folder / "go").touch()
    result = invoke("run", name)
    assert result.exit_code == (0 if how == "SIGTERM" else 1)
    assert "  Release:     exit 0" in result.stdout
    assert (folder / "ran").read_text().count("\n") == (folder / "released").read_text().count("\n") == 1


@pytest.mark.parametrize(("asked", "told"), [("terminate", "Job j is completed (UserTerminate)"), ("delete", "job j was deleted before its end")])
def test_a_job_that_another_process_ends_is_over_for_run_too(running, invoke, folder, asked, told):
    begin, _ = running
    process = begin()
    assert invoke(asked, "j").exit_code == 0
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert told in out + err
    assert (folder / "released").read_text().count("\n") == 1


def test_ctrl_c_before_anything_was_recorded(start, folder):
    """While the job file is still to come: a pipe opens for writing as soon as the command reads it."""
    os.mkfifo("job.yaml")
    process = start("run", "job.yaml")
    with Path("job.yaml").open("w"):
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "jobledger: interrupted\n")
    assert not LEDGER.exists()


# --- a terminal -----------------------------------------------------------------------------------------------


def test_on_a_terminal_it_draws_and_leaves_it_as_it_was(start, write):
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    process = start(
        "run", write(*["sleep 0.2"] * 3, prep="true", release="true"), stderr=theirs, env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    )
    drawn = b""
    while process.poll() is None or select.select([ours], [], [], 0)[0]:
        if select.select([ours], [], [], 0.05)[0]:
            drawn += os.read(ours, 65536)
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 0
    text = drawn.decode()
    for shown in ("preparation", "tasks now", "p-1", "completed", "\x1b[?25l"):
        assert shown in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is back
    assert "Job j is completed" in process.stdout.read()


def test_a_job_whose_tasks_require_more_slots_than_a_node_has_is_ended_when_the_others_are_done(invoke):
    data = {
        "pool": {"id": "p", "taskSlotsPerNode": 2},
        "job": {"id": "j", "onAllTasksComplete": "terminatejob"},
        "tasks": [{"id": "a", "commandLine": "true", "requiredSlots": 4}, {"id": "b", "commandLine": "true", "requiredSlots": 2}],
    }
    Path("job.json").write_text(json.dumps(data))
    result = invoke("run", "job.json")
    assert (result.exit_code, "(TooFewSlots)" in result.stdout, "1 succeeded" in result.stdout) == (1, True, True)
