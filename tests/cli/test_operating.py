"""Pools, nodes and tasks operated from the command line, on a ledger that an engine drives with real local nodes."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from jobledger import BlockingEngine, SqliteStore
from jobledger.core import events as e

LEDGER = Path(".jobledger/ledger.db")
WAITS = "sh -c 'for i in $(seq 500); do sleep 0.02; test -e {}/go && break; done'"


@pytest.fixture
def engine():
    with BlockingEngine(LEDGER, durability="relaxed") as opened:
        yield opened


@pytest.fixture
def asked(invoke):
    """Runs a command that must be granted."""

    def ask(*words):
        result = invoke(*words)
        assert result.exit_code == 0, result.stderr
        return result.stdout

    return ask


def recorded(kind):
    with closing(SqliteStore.open(LEDGER, read_only=True)) as store:
        return [one for one in store.read() if isinstance(one.event, kind)]


def states(engine, pool="w"):
    return engine.read(lambda world: {node: world.nodes[node].state for node in world.pools[pool].nodes})


def test_a_pool_is_created_resized_and_deleted(engine, asked, invoke):
    Path("pool.yaml").write_text("pool: {id: w, nodes: 1, taskSlotsPerNode: 2}")
    assert "pool w is created" in asked("pools", "create", "pool.yaml")
    engine.until(lambda world: world.pools["w"].allocation == "steady", timeout_s=30)
    asked("pools", "resize", "w", 3)
    engine.until(lambda world: world.pools["w"].allocation == "steady" and len(world.pools["w"].nodes) == 3, timeout_s=30)
    listed = json.loads(asked("pools", "--json"))["pools"]
    assert [(pool["id"], pool["targetDedicatedNodes"] if "targetDedicatedNodes" in pool else len(states(engine))) for pool in listed] == [("w", 3)]
    assert invoke("pools", "stop-resize", "w").exit_code == 3
    asked("pools", "delete", "w")
    engine.until(lambda world: not world.pools, timeout_s=30)
    assert asked("pools") == "no pools\n"
    assert not list(Path(".jobledger/nodes/w").glob("*"))


def test_a_reimaged_node_takes_tasks_of_a_job_whose_preparation_failed_there(engine, asked, write, until):
    job = write("true", prep=f"test -e {Path.cwd()}/ready", release="true")
    asked("submit", job)
    engine.until(lambda world: world.jobs["j"].blocked, timeout_s=30)
    assert "JobPreparationTaskFailed" in asked("explain", "j")
    Path("ready").touch()
    asked("nodes", "reimage", "p-1")
    engine.wait("j", timeout_s=30)
    assert engine.read(lambda world: world.jobs["j"].succeeded) == 1
    assert [one.actor.split(":")[0] for one in recorded(e.NodeReimaging)] == ["user"]


def test_a_rebooted_node_runs_its_task_again(engine, asked, write, until):
    asked("submit", write(WAITS.format(Path.cwd())))
    until(lambda: recorded(e.ExecutionConfirmed), "the task")
    asked("nodes", "reboot", "p-1")
    until(lambda: recorded(e.TaskRequeued), "the requeue")
    Path("go").touch()
    engine.wait("j", timeout_s=30)
    assert engine.read(lambda world: (world.jobs["j"].tasks["t1"].requeues, world.jobs["j"].tasks["t1"].retries)) == (1, 0)


def test_a_node_is_taken_out_of_scheduling_and_off_and_on_again(engine, asked, write):
    asked("submit", write("true", job={"onAllTasksComplete": "noaction"}))
    for words, state in [
        ("disable-scheduling", "offline"),
        ("enable-scheduling", "idle"),
        ("deallocate", "deallocated"),
        ("start", "idle"),
    ]:
        asked("nodes", words, "p-1")
        engine.until(lambda world, state=state: world.nodes["p-1"].state == state, timeout_s=30)
    asked("nodes", "remove", "p-1")
    engine.until(lambda world: "p-1" not in world.nodes, timeout_s=30)


def test_a_node_drains_and_the_lists_say_so(engine, asked, write, until):
    asked("submit", write(WAITS.format(Path.cwd())))
    until(lambda: recorded(e.ExecutionConfirmed), "the task")
    told = asked("nodes", "reboot", "p-1", "--option", "taskcompletion", "--reason", "new kernel")
    assert told.startswith("node p-1 reboots when its tasks have ended")
    assert "running (draining to reboot)" in asked("nodes")
    assert "on request: new kernel" in asked("nodes")
    assert json.loads(asked("nodes", "--json"))["nodes"][0]["draining"]["then"] == "reboot"
    assert "1 running (draining to reboot)" in asked("pools")
    assert "and is to reboot when those that are there have ended: on request: new kernel (NodeDraining)" in asked("explain", "j", "t1")
    Path("go").touch()
    engine.until(lambda world: world.nodes["p-1"].incarnation == 2 and world.nodes["p-1"].state == "idle", timeout_s=30)
    assert engine.read(lambda world: (world.jobs["j"].tasks["t1"].result, world.jobs["j"].tasks["t1"].requeues)) == ("success", 0)


def test_a_resize_waits_for_tasks_is_stopped_and_is_hurried(engine, asked, write, until):
    asked("submit", write(WAITS.format(Path.cwd())))
    until(lambda: recorded(e.ExecutionConfirmed), "the task")
    asked("pools", "resize", "p", 0, "--option", "taskcompletion", "--resize-timeout", "PT1H")
    assert json.loads(asked("pools", "--json"))["pools"][0]["drainingNodes"] == 1
    asked("pools", "stop-resize", "p")
    (pool,) = json.loads(asked("pools", "--json"))["pools"]
    assert (pool["allocationState"], pool["resizeErrors"][0]["code"]) == ("steady", "ResizeStopped")
    assert "ResizeStopped: the resize was stopped before these nodes had gone" in asked("pools")
    asked("pools", "resize", "p", 0, "--option", "terminate")
    engine.until(lambda world: not world.nodes, timeout_s=30)
    assert engine.read(lambda world: world.jobs["j"].tasks["t1"].failure.code) == "TaskEnded"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nodes", "reboot", "p-1", "--option", "retaineddata"), "'retaineddata' is not one of 'requeue', 'terminate', 'taskcompletion'"),
        (("pools", "resize", "p", "2", "--resize-timeout", "20 minutes"), "'20 minutes' is not a duration: write ISO 8601"),
        (("pools", "resize", "p", "2", "--resize-timeout", "P10675199DT2H48M5.4775807S"), "a resize cannot be unlimited"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_before_anybody_is_asked(invoke, words, told):
    result = invoke(*words)
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.split())


def test_a_resize_timeout_below_azures_is_refused_by_the_engine(engine, asked, invoke):
    Path("pool.json").write_text('{"id": "w"}')
    asked("pools", "create", "pool.json")
    engine.until(lambda world: world.pools["w"].allocation == "steady", timeout_s=30)
    result = invoke("pools", "resize", "w", "2", "--resize-timeout", "PT1M")
    assert (result.exit_code, "resizeTimeout: must be at least PT5M" in result.stderr) == (2, True)


def test_a_failed_task_is_reactivated_and_a_task_is_deleted(engine, asked, invoke, write, until):
    asked("submit", write(f"test -e {Path.cwd()}/ready", "true", job={"onAllTasksComplete": "noaction"}))
    engine.until(lambda world: world.jobs["j"].counts["completed"] == 2, timeout_s=30)
    assert invoke("tasks", "reactivate", "j", "t2").exit_code == 3  # it succeeded
    Path("ready").touch()
    asked("tasks", "reactivate", "j", "t1")
    engine.until(lambda world: world.jobs["j"].succeeded == 2, timeout_s=30)
    asked("tasks", "delete", "j", "t1")
    assert [task["id"] for task in json.loads(asked("tasks", "j", "--json"))["tasks"]] == ["t2"]
    assert asked("tasks", "list", "j") == asked("tasks", "j")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("nodes", "reboot", "nowhere"), "NodeNotFound"),
        (("nodes", "start", "w-1"), "OperationNotValidOnNode"),
        (("nodes", "enable-scheduling", "w-1"), "NodeAlreadyInTargetSchedulingState"),
        (("pools", "resize", "nowhere", "2"), "PoolNotFound"),
        (("pools", "stop-resize", "w"), "OperationNotValidOnPool"),
        (("tasks", "delete", "j", "t"), "JobNotFound"),
    ],
)
def test_what_is_refused_says_why_and_records_nothing(engine, asked, invoke, words, code):
    Path("pool.json").write_text('{"id": "w"}')
    asked("pools", "create", "pool.json")
    engine.until(lambda world: world.pools["w"].allocation == "steady", timeout_s=30)
    before = engine.position
    result = invoke(*words, "--json")
    assert (result.exit_code, json.loads(result.stderr)["error"]["code"]) == (3, code)
    assert engine.position == before
