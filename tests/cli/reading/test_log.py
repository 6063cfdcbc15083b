"""log: the output of a task, of preparation and of release, as it is and as it grows."""

import json
from pathlib import Path

import pytest

from jobledger.core.specs import FinalizerSpec
from jobledger.testing.scenario import Hangs

LEDGER = Path(".jobledger/ledger.db")
OUTPUT = Path(".jobledger/nodes/p")


# --- log ------------------------------------------------------------------------------------------------------


def put(node, task, name, data):
    path = OUTPUT / node / "workitems" / "sample" / "job-1" / task / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_the_output_of_a_task_comes_as_it_is(invoke, record, scenario):
    record(scenario("t1"))
    put("p-1", "t1", "stdout.txt", b"\xff\x00 raw\n")
    put("p-1", "t1", "stderr.txt", b"oh\n")
    assert invoke("log", "sample", "t1").stdout_bytes == b"\xff\x00 raw\n"
    assert invoke("log", "sample", "t1", "--stderr").stdout_bytes == b"oh\n"
    assert invoke("log", "sample", "t1", "--follow").stdout_bytes == b"\xff\x00 raw\n"


def test_the_output_of_preparation_and_release_needs_a_node_where_several_ran_it(invoke, record, scenario):
    record(scenario("t1", "t2", nodes=2))
    for node in ("p-1", "p-2"):
        for task in ("jobpreparation", "jobrelease"):
            put(node, task, "stdout.txt", f"{task} on {node}\n".encode())
    for task in ("jobpreparation", "jobrelease"):
        result = invoke("log", "sample", task)
        assert result.exit_code == 2
        assert f"{task} of job sample ran on p-1, p-2: say which with --node" in result.stderr
        assert invoke("log", "sample", task, "--node", "p-2").stdout == f"{task} on p-2\n"
        assert invoke("log", "sample", task, "--node", "p-1", "--follow").stdout == f"{task} on p-1\n"
    result = invoke("log", "sample", "jobrelease", "--node", "p-3")
    assert result.exit_code == 3
    assert "jobrelease of job sample has not run on node p-3; it ran on: p-1, p-2" in result.stderr


def test_the_output_of_a_single_preparation_needs_no_node(invoke, record, scenario):
    record(scenario("t1", nodes=2))
    put("p-1", "jobpreparation", "stdout.txt", b"ready\n")
    assert invoke("log", "sample", "jobpreparation").stdout == "ready\n"


@pytest.mark.parametrize(("task", "hint"), [("t2", "; --follow waits for it"), ("jobrelease", "")])
def test_what_has_not_run_has_no_output(invoke, record, scenario, task, hint):
    record(scenario("t1", "t2", script={"t1": Hangs()}))
    result = invoke("log", "sample", task)
    assert result.exit_code == 3
    assert result.stderr == f"jobledger: refused (FileNotFound): {task} of job sample has not run, so there is no output{hint}\n"


def test_output_that_is_gone_is_named_with_where_it_was_looked_for(invoke, record, scenario):
    record(scenario("t1"))
    result = invoke("log", "sample", "t1", "--root", "elsewhere")
    assert result.exit_code == 3
    assert "elsewhere/p/p-1/workitems/sample/job-1/t1/stdout.txt is not there" in result.stderr


JOB = """
pool: {id: p, executor: local, nodes: 1}
job: {id: sample, onAllTasksComplete: terminatejob}
tasks:
  - id: t1
    constraints: {maxTaskRetryCount: 1}
    commandLine: >-
      /bin/sh -c 'if [ -e "$AZ_BATCH_NODE_SHARED_DIR/mark" ]; then echo two; exit 0; fi;
      touch "$AZ_BATCH_NODE_SHARED_DIR/mark"; echo one; n=0; until [ -e "$AZ_BATCH_NODE_SHARED_DIR/go" ] || [ $n -gt 600 ]; do sleep 0.05; n=$((n+1)); done; exit 1'
"""


def test_followed_output_grows_through_retries_until_the_task_has_ended(start, invoke, folder, until, soon):
    (folder / "job.yaml").write_text(JOB)
    engine = start("run", "job.yaml", "--quiet")
    mark = OUTPUT / "p-1" / "shared" / "mark"
    until(mark.exists, "the first try")
    log = start("log", "sample", "t1", "--follow")
    assert soon(log, log.stdout.readline) == "one\n"
    (mark.parent / "go").touch()
    out, err = soon(log, log.communicate)
    assert (log.returncode, out, err) == (0, "two\n", "jobledger: t1 runs on p-1\n")
    soon(engine, engine.communicate)
    assert engine.returncode == 0
    tasks = json.loads(invoke("tasks", "sample", "--json").stdout)["tasks"]
    assert tasks[0]["executionInfo"]["retryCount"] == 1


# --- finalizers -----------------------------------------------------------------------------------------------

HOST_OUTPUT = Path(".jobledger/nodes/.engine/.engine/workitems/sample/job-1/jobfinalizer/stdout.txt")


def test_the_output_of_a_finalizer_is_found_on_the_engines_host(invoke, record, scenario):
    record(scenario("t1", job_finalizer_task=FinalizerSpec(command_line="finalize")))
    HOST_OUTPUT.parent.mkdir(parents=True)
    HOST_OUTPUT.write_text("all done\n")
    assert invoke("log", "sample", "jobfinalizer").stdout == "all done\n"
    assert invoke("log", "sample", "jobfinalizer", "--follow").stdout == "all done\n"


def test_the_output_of_a_finalizer_is_found_on_the_node_that_was_chosen(invoke, record, scenario):
    record(scenario("t1", job_finalizer_task=FinalizerSpec(command_line="finalize", node_id="p-1")))
    put("p-1", "jobfinalizer", "stdout.txt", b"all done\n")
    assert invoke("log", "sample", "jobfinalizer").stdout == "all done\n"


def test_a_finalizer_that_has_not_run_has_no_output(invoke, record, scenario):
    record(scenario("t1", script={"t1": Hangs()}, job_finalizer_task=FinalizerSpec(command_line="finalize")))
    result = invoke("log", "sample", "jobfinalizer")
    assert (result.exit_code, result.stderr) == (
        3,
        "jobledger: refused (FileNotFound): jobfinalizer of job sample has not run, so there is no output\n",
    )


def test_the_output_of_a_finalizer_is_followed_to_its_end(start, invoke, folder, until, soon):
    words = "/bin/sh -c 'echo one; n=0; until [ -e go ] || [ $n -gt 600 ]; do sleep 0.05; n=$((n+1)); done; echo two'"
    job = {"pool": {"id": "p"}, "job": {"id": "sample", "onAllTasksComplete": "terminatejob", "jobFinalizerTask": {"commandLine": words}}}
    (folder / "job.json").write_text(json.dumps(job))
    engine = start("run", "job.json", "--quiet")
    until(lambda: HOST_OUTPUT.exists() and HOST_OUTPUT.read_text(), "the finalizer")
    log = start("log", "sample", "jobfinalizer", "--follow")
    assert soon(log, log.stdout.readline) == "one\n"
    (HOST_OUTPUT.parent / "wd" / "go").touch()
    out, err = soon(log, log.communicate)
    assert (log.returncode, out, err) == (0, "two\n", "")
    soon(engine, engine.communicate)
    assert engine.returncode == 0
