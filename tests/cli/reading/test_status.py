"""status, nodes, tasks and explain, over ledgers that the rules made."""

import json
from pathlib import Path

import pytest

from jobledger.core.ids import Duration, Micros
from jobledger.core.reports import NodeFaulted
from jobledger.core.requests import TerminateJob
from jobledger.core.specs import FinalizerSpec, TaskConstraints, TaskSpec
from jobledger.eventstore import SqliteStore
from jobledger.owner import new_name
from jobledger.surroundings import wall_clock
from jobledger.testing.scenario import CannotStart, Exits, Hangs, Silent
from jobledger.views import status_document

LEDGER = Path(".jobledger/ledger.db")
OUTPUT = Path(".jobledger/nodes/p")


# --- status ---------------------------------------------------------------------------------------------------


def test_status_of_everything(invoke, record, scenario, row):
    record(scenario("t1", "t2", "t3", script={"t2": Exits(3), "t3": Hangs()}))
    result = invoke("status")
    assert result.exit_code == 0
    assert row(result.stdout, "sample")[:8] == ["sample", "active", "0", "3", "0", "1", "1", "1"]
    assert row(result.stdout, "p") == ["p", "active", "steady", "local", "1", "1 running"]
    assert result.stdout.splitlines()[-1].startswith(".jobledger/ledger.db: no engine drives it; position ")


def test_status_of_an_empty_ledger(invoke, append):
    append([])
    result = invoke("status")
    assert result.exit_code == 0
    assert "no jobs; `jobledger run FILE` runs one" in result.stdout
    assert "no pools" in result.stdout


def test_status_of_everything_as_json(invoke, record, scenario):
    s = scenario("t1")
    record(s)
    found = json.loads(invoke("status", "--json").stdout)
    assert list(found) == ["jobs", "pools", "engine", "position"]
    assert found["jobs"][0]["id"] == "sample"
    assert found["jobs"][0]["taskCounts"]["succeeded"] == 1
    assert found["pools"][0]["id"] == "p"
    assert found["engine"] == {"state": "none"}
    assert found["position"] == len(s.log)


def test_status_tells_whether_an_engine_drives_the_ledger(invoke, record, scenario):
    record(scenario("t1"))
    alive = new_name()
    host, pid, start, engine = alive.split("/")
    store = SqliteStore.open(LEDGER)

    def told(owner, *, now, ttl=60_000_000):
        lease = store.acquire_lease(owner, now=Micros(now), ttl=Duration(ttl))
        text, plain = invoke("status").stdout, json.loads(invoke("status", "--json").stdout)["engine"]
        store.release_lease(lease)
        assert set(plain) == {"state", "owner", "process", "epoch", "leaseExpiresAt"}
        assert f"is driven by an engine ({plain['process']})" in text if plain["state"] == "driving" else "ended without a word" in text
        return plain["state"]

    try:
        assert told(alive, now=wall_clock()) == "driving"
        assert told(alive, now=wall_clock() - 2_000_000, ttl=1_000_000) == "gone"
        assert told(f"{host}/{pid}/{start}0/{engine}", now=wall_clock()) == "gone"  # this pid, but of a process born at another time
    finally:
        store.close()


def test_status_of_a_job(invoke, record, scenario, row):
    script = {"t2": Exits(3), "t3": CannotStart(), "jobrelease@p-2": Exits(4)}
    record(scenario("t1", "t2", "t3", "t4", script=script, nodes=2))
    result = invoke("status", "sample", "--root", "elsewhere")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "job sample: completed (AllTasksComplete)"
    assert "tasks: 4, of which 0 active, 0 running, 2 succeeded, 2 failed" in result.stdout
    assert row(result.stdout, "p-1")[1:3] == ["idle", "exit 0"]
    assert row(result.stdout, "p-1")[-1] == "exit 0"
    assert row(result.stdout, "p-2")[-1] == "exit 4"
    assert row(result.stdout, "t2")[-1].startswith("FailureExitCode (exit 3): ")
    assert row(result.stdout, "t3")[-1] == "CommandProgramNotFound: the program could not be launched"
    assert row(result.stdout, "jobrelease")[1] == "p-2"
    assert "output: elsewhere/p/<node>/workitems/sample/job-1/<task>/{stdout,stderr}.txt" in result.stdout


def test_status_of_a_job_says_why_it_is_not_further(invoke, record, scenario, row):
    record(scenario("t1", script={"jobpreparation": Exits(1)}))
    result = invoke("status", "sample")
    assert "preparation failed" in result.stdout
    assert row(result.stdout, "jobpreparation")[1] == "p-1"


def test_status_of_a_job_names_a_node_that_is_gone_and_why_no_release_ran(invoke, record, scenario, row):
    s = scenario("t1", on_all_tasks_complete="noaction")
    s.finish(NodeFaulted(node="p-1", fault="preempted", reason="the capacity was needed"))
    s.finish(TerminateJob(job="sample"))
    record(s)
    assert row(invoke("status", "sample").stdout, "p-1")[-1] == "abandoned: the node was preempted"


def test_status_lists_some_failures_and_says_how_many_more(invoke, record, scenario):
    tasks = [f"t{number}" for number in range(25)]
    record(scenario(*tasks, script=dict.fromkeys(tasks, Exits(1))))
    assert "and 5 more: `jobledger tasks sample --state failed`" in invoke("status", "sample").stdout


def test_status_of_a_job_as_json_is_the_document(invoke, record, scenario):
    s = scenario("t1", "t2", script={"t2": Exits(3)}, nodes=2)
    world = record(s)
    assert json.loads(invoke("status", "sample", "--json").stdout) == status_document(world, "sample", len(s.log))


def test_text_of_others_can_neither_break_a_line_nor_command_the_terminal(invoke, record, scenario):
    s = scenario("t1", script={"t1": Hangs()})
    s.finish(TerminateJob(job="sample", reason="\x1b[31mred\nline"))
    record(s)
    for command in (("status",), ("status", "sample"), ("events",), ("explain", "sample"), ("tasks", "sample")):
        out = invoke(*command).stdout
        assert "\x1b" not in out
        assert not any(line.startswith("line") for line in out.splitlines())


# --- nodes, tasks, explain ------------------------------------------------------------------------------------


def test_nodes(invoke, record, scenario, row):
    s = scenario("t1", nodes=2, script={"t1": Hangs()})
    s.finish(NodeFaulted(node="p-2", fault="unusable", reason="its disk is full"))
    record(s)
    result = invoke("nodes")
    assert row(result.stdout, "p-1")[1:5] == ["p", "running", "enabled", "1"]
    assert row(result.stdout, "p-2")[2] == "unusable"
    assert row(result.stdout, "p-2")[-1] == "its disk is full"
    found = json.loads(invoke("nodes", "--json").stdout)
    assert [node["id"] for node in found["nodes"]] == ["p-1", "p-2"]
    assert found["position"] == len(s.log)


def test_no_nodes(invoke, append):
    append([])
    assert invoke("nodes").stdout == "no nodes\n"


def test_tasks(invoke, record, scenario, row):
    retried = TaskSpec(id="t4", command_line="work", constraints=TaskConstraints(max_task_retry_count=1))
    s = scenario("t1", "t2", "t3", retried, "t5", nodes=2, script={"t2": Exits(3), "t3": Hangs(), "t4": [Exits(7), Silent()]})
    record(s)
    out = invoke("tasks", "sample").stdout
    assert out.splitlines()[0].split("  ")[0] == "task"
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["t1", "t2", "t3", "t4", "t5"]
    assert row(out, "t1")[1:4] == ["completed", "p-1", "0"]
    assert row(out, "t2")[-1].startswith("FailureExitCode: ")
    assert row(out, "t3")[1:3] == ["running", "p-1"]
    assert [task["id"] for task in json.loads(invoke("tasks", "sample", "--json").stdout)["tasks"]] == ["t1", "t2", "t3", "t4", "t5"]


def test_a_task_between_tries_says_that_it_is_tried_again(invoke, record, scenario, row):
    retried = TaskSpec(id="t1", command_line="work", constraints=TaskConstraints(max_task_retry_count=1))
    s = scenario(retried, "t2", script={"t1": [Exits(7), Hangs()]}, run=False)
    while s.world.jobs["sample"].tasks["t1"].retries == 0:
        s.run()
    s.when(NodeFaulted(node="p-1", fault="lost", reason="it does not answer"))
    record(s)
    assert row(invoke("tasks", "sample").stdout, "t1")[-1] == "exit 7, to be tried again"


@pytest.mark.parametrize(
    ("state", "chosen"), [("completed", ["t1", "t2"]), ("failed", ["t2"]), ("succeeded", ["t1"]), ("running", ["t3"]), ("active", ["t4"])]
)
def test_tasks_in_one_state(invoke, record, scenario, state, chosen):
    record(scenario("t1", "t2", "t3", "t4", script={"t2": Exits(3), "t3": Hangs()}))
    assert [line.split()[0] for line in invoke("tasks", "sample", "--state", state).stdout.splitlines()[1:]] == chosen
    assert [task["id"] for task in json.loads(invoke("tasks", "sample", "--state", state, "--json").stdout)["tasks"]] == chosen


def test_no_tasks_in_a_state(invoke, record, scenario):
    record(scenario("t1"))
    assert invoke("tasks", "sample", "--state", "preparing").stdout == "job sample has no tasks that are preparing\n"


def test_a_state_that_does_not_exist_is_bad_input(invoke, record, scenario):
    record(scenario("t1"))
    result = invoke("tasks", "sample", "--state", "done")
    assert result.exit_code == 2
    assert "'--state'" in result.stderr


def test_explain_a_job_and_a_task(invoke, record, scenario):
    record(scenario("t1", "t2", script={"t1": Hangs()}))
    result = invoke("explain", "sample", "t2")
    assert result.stdout.splitlines()[0] == "task t2 of job sample is active"
    assert "(NoFreeSlot)" in result.stdout
    assert invoke("explain", "sample").stdout.splitlines()[0] == "job sample is active"
    found = json.loads(invoke("explain", "sample", "t2", "--json").stdout)
    assert list(found) == ["job", "task", "reasons", "asked", "position"]
    assert "NoFreeSlot" in [reason["code"] for reason in found["reasons"]]
    assert all(set(reason) <= {"code", "text", "subject"} and None not in reason.values() for reason in found["reasons"])
    assert "task" not in json.loads(invoke("explain", "sample", "--json").stdout)


# --- finalizers -----------------------------------------------------------------------------------------------


def finalized_by(node=None):
    return FinalizerSpec(command_line="finalize", node_id=node)


def test_status_tells_how_the_finalizer_is_and_where(invoke, record, scenario):
    record(scenario("t1", script={"jobfinalizer": Hangs()}, job_finalizer_task=finalized_by()))
    told = invoke("status", "sample").stdout
    assert "finalizer: running (on the engine's host)" in told.splitlines()
    assert "all else is done, and the finalizer is running on the engine's host" in told
    assert "the finalizer is running on the engine's host (Finalizing)" in invoke("explain", "sample").stdout
    assert json.loads(invoke("status", "sample", "--json").stdout)["jobFinalizerTaskStatus"]["state"] == "running"


def test_status_tells_how_the_finalizer_failed(invoke, record, scenario, row):
    record(scenario("t1", script={"jobfinalizer": Exits(3)}, job_finalizer_task=finalized_by()))
    told = invoke("status", "sample").stdout
    assert "finalizer: exit 3 (on the engine's host)" in told.splitlines()
    assert row(told, "jobfinalizer")[1:] == [
        "the engine's host",
        "FailureExitCode (exit 3): The task exited with an exit code representing a failure",
    ]


def test_status_tells_why_the_finalizer_never_ran(invoke, record, scenario):
    record(scenario("t1", job_finalizer_task=finalized_by("p-9")))
    assert "finalizer: abandoned (on p-9): there is no such node" in invoke("status", "sample").stdout.splitlines()
