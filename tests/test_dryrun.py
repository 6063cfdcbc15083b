"""Dry runs of job files: they are the same each time, always end, run nothing, and know no secret."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import evolve

from jobledger import Engine, JobId, RequestRefused, here, jobfile
from jobledger.core import events as e
from jobledger.core.ids import SECOND, Duration
from jobledger.core.invariants import audit
from jobledger.dryrun import DEFAULT_START, WITHHELD, Assumptions, dry_run
from jobledger.executors.dry_run import DryRunExecutor
from jobledger.executors.fortune import LaunchRule, NodeRule, Scenario, Span
from jobledger.guest import Guest
from jobledger.jobfile import JobFileError
from jobledger.recordings import recordings_of

SAMPLE = Path(__file__).parents[1] / "examples" / "job_prep_release.yaml"
MINUTE = Duration(60 * SECOND)


def job_file(count=4, *, nodes=2, **job):
    tasks = [{"id": f"t{number}", "commandLine": "/bin/false"} for number in range(1, count + 1)]
    return jobfile.parse({"pool": {"id": "p", "nodes": nodes}, "job": {"id": "j", **job}, "tasks": tasks})


def minute_each(*rules, nodes=(), **more):
    every = LaunchRule(duration=Span(fixed=MINUTE))
    return Assumptions(scenario=Scenario(launches=(*rules, every), nodes=nodes), **more)


def test_a_job_is_seen_through_in_virtual_time_and_nothing_runs():
    with dry_run(job_file(onAllTasksComplete="terminatejob"), minute_each()) as found:
        assert (found.job.state, found.job.succeeded, found.left) == ("completed", 4, False)
        assert 2 * MINUTE <= found.took < 2 * MINUTE + SECOND
        events = list(found.store.read())
    assert events[0].event.dry_run == found.world.dry_run
    assert events[0].recorded_at == DEFAULT_START
    assert {one.event.pid for one in events if isinstance(one.event, e.ExecutionConfirmed)} == {None}
    assert {one.actor for one in events} == {"jobledger", "dry-run"}


def test_a_job_that_does_not_end_by_itself_is_ended_as_run_would():
    said = []
    with dry_run(job_file(), minute_each(), say=said.append) as found:
        assert (found.job.state, found.job.terminate_reason) == ("completed", "AllTasksComplete")
    assert said == ["all tasks are complete: ending the job"]


def test_it_may_be_left_as_it_is():
    with dry_run(job_file(), minute_each(), leave_active=True) as found:
        assert (found.job.state, found.left) == ("active", True)


def test_a_job_that_nobody_will_enable_is_left_when_nothing_can_happen_any_more():
    """Time goes on until then: a limit of the job's would have ended it."""
    spec = {"onTaskFailure": "performexitoptionsjobaction"}
    conditions = {"default": {"jobAction": "disable"}}
    tasks = [{"id": "t1", "commandLine": "x", "exitConditions": conditions}]

    def file(**more):
        return jobfile.parse({"pool": {"id": "p"}, "job": {"id": "j", **spec, **more}, "tasks": tasks})

    fails = minute_each(LaunchRule(exit_code=1), nodes=(NodeRule(fault="reboot", mean_time_between=MINUTE),))
    with dry_run(file(), fails) as found:
        assert (found.job.state, found.left) == ("disabled", True)
    with dry_run(file(constraints={"maxWallClockTime": "P1D"}), fails) as found:
        assert (found.job.state, found.job.terminate_reason, found.left) == ("completed", "MaxWallClockTimeExpiry", False)
        assert found.took >= 24 * 60 * MINUTE


def test_a_job_whose_nodes_are_all_gone_is_ended():
    with dry_run(job_file(nodes=1), minute_each(nodes=(NodeRule(fault="lost", at=MINUTE // 2),))) as found:
        assert (found.job.state, found.job.terminate_reason) == ("completed", "NoUsableNode")


def test_a_file_without_a_pool_is_told_what_it_lacks():
    lacking = jobfile.parse({"job": {"id": "j", "poolInfo": {"poolId": "elsewhere"}}})
    with pytest.raises(JobFileError, match="a dry run knows no pool 'elsewhere'; add a `pool:` section"):
        dry_run(lacking)


def test_every_executor_is_pretended():
    """The pool may name one that is not even installed, and the finalizer runs on a host that is not there."""
    data = {
        "pool": {"id": "p", "executor": "cloud", "startTask": {"commandLine": "x", "userIdentity": {"username": "nobody-here"}}},
        "job": {"id": "j", "jobFinalizerTask": {"commandLine": "x"}, "onAllTasksComplete": "terminatejob"},
        "tasks": [{"id": "t", "commandLine": "x", "userIdentity": {"username": "nobody-here"}}],
    }
    with dry_run(jobfile.parse(data)) as found:
        assert (found.job.state, found.job.succeeded, found.job.finalizer.exit_code) == ("completed", 1, 0)


STORMY = Scenario(
    launches=(
        LaunchRule(probability=0.2, exit_code=1),
        LaunchRule(probability=0.05, lost=True),
        LaunchRule(probability=0.05, not_started="BlobNotFound"),
        LaunchRule(tasks=("t1*",), probability=0.2, hangs=True, silent=True, ignores_stop=True),
    ),
    nodes=tuple(
        NodeRule(fault=fault, mean_time_between=Duration(6 * MINUTE), back_after=None if fault == "wiped" else MINUTE)
        for fault in ("reboot", "lost", "preempted", "unusable", "wiped")
    ),
    boot_duration=Span(fixed=Duration(20 * SECOND)),
)


@pytest.mark.parametrize("seed", range(6))
def test_in_any_weather_a_job_comes_to_its_end_and_every_invariant_holds(seed):
    """Nodes fail in every way every minute, and what is told of them is the engine's own story."""
    data = {
        "pool": {"id": "p", "nodes": 6, "taskSlotsPerNode": 2, "startTask": {"commandLine": "x", "maxTaskRetryCount": 2}},
        "job": {
            "id": "j",
            "jobPreparationTask": {"commandLine": "x", "constraints": {"maxTaskRetryCount": 2}},
            "jobReleaseTask": {"commandLine": "x"},
            "jobFinalizerTask": {"commandLine": "x"},
            "onAllTasksComplete": "terminatejob",
        },
        "tasks": [
            {"id": f"t{n}", "commandLine": "x", "constraints": {"maxTaskRetryCount": 3, "maxWallClockTime": "PT10M", "silentTimeout": "PT2M"}}
            for n in range(40)
        ],
    }
    with dry_run(jobfile.parse(data), Assumptions(seed=seed, scenario=STORMY)) as found:
        assert (found.job.state, found.left) == ("completed", False)
        recorded = list(found.store.read())
    assert audit([(one.event, one.recorded_at) for one in recorded]) == []
    seen = {type(one.event) for one in recorded}
    assert {e.NodeUnknown, e.NodePreempted, e.NodeReallocated, e.NodeUnusable, e.NodeReimaging, e.NodeRebooting, e.ExecutionUnresolved} <= seen


# --- the same each time ---------------------------------------------------------------------------------------

TROUBLE = """
import sys
from jobledger import jobfile
from jobledger.dryrun import Assumptions, dry_run
from jobledger.scenariofile import load_scenario
scenario = load_scenario(sys.argv[4]) if len(sys.argv) > 4 else None
dry_run(jobfile.load(sys.argv[1], read_secrets=False), Assumptions(seed=int(sys.argv[3]), scenario=scenario), ledger=sys.argv[2]).close()
"""


def in_a_process(tmp_path, name, *arguments, hash_seed):
    path = tmp_path / f"{name}.db"
    file, *rest = arguments
    surroundings = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "TZ": f"UTC{hash_seed}"}
    subprocess.run([sys.executable, "-c", TROUBLE, file, path, *rest], check=True, env=surroundings, cwd=tmp_path)
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(path.name)] == [path.name]
    return path.read_bytes()


def test_the_same_seed_is_the_same_ledger_byte_for_byte(tmp_path):
    """In processes that hash differently, with a file of many tasks, secrets and trouble of each kind."""
    many = tmp_path / "many.yaml"
    many.write_text(
        """
pool: {id: p, nodes: 5, taskSlotsPerNode: 2, startTask: {commandLine: x}}
job:
  id: j
  constraints: {maxTaskRetryCount: 2}
  jobPreparationTask: {commandLine: x, constraints: {maxTaskRetryCount: 1}}
  jobReleaseTask: {commandLine: x}
  jobFinalizerTask: {commandLine: x}
  commonEnvironmentSettings: [{name: KEY, valueFrom: {environment: NOT_THERE}}, {name: OTHER, value: hidden, secret: true}]
tasks:
"""
        + "".join(f"  - {{id: t{number}, commandLine: x, metadata: [{{name: a, value: b}}]}}\n" for number in range(60))
    )
    storm = tmp_path / "storm.yaml"
    faults = "".join(f"  - {{fault: {kind}, meanTimeBetween: PT4M, backAfter: PT2M}}\n" for kind in ("reboot", "lost", "preempted", "unusable"))
    storm.write_text(f"launches:\n  - {{tasks: '*', probability: 0.2, exitCode: 1}}\nnodes:\n{faults}  - {{fault: wiped, meanTimeBetween: PT9M}}\n")
    first, second = (in_a_process(tmp_path, f"run-{number}", many, "7", storm, hash_seed=number) for number in (1, 2))
    assert first == second
    assert first != in_a_process(tmp_path, "other", many, "8", storm, hash_seed=1)
    assert b"hidden" not in first
    assert (in_a_process(tmp_path, "a", SAMPLE, "7", hash_seed=3)) == in_a_process(tmp_path, "b", SAMPLE, "7", hash_seed=4)


def test_another_job_or_another_start_is_another_ledger():
    def ledger_id(file, assumptions):
        with dry_run(file, assumptions) as found:
            return found.store.ledger_id

    plain = minute_each()
    ids = [
        ledger_id(job_file(), plain),
        ledger_id(job_file(5), plain),
        ledger_id(job_file(), minute_each(start=0)),
        ledger_id(job_file(), Assumptions()),
    ]
    assert len(set(ids)) == 4
    assert ledger_id(job_file(), plain) == ids[0]


# --- ledgers --------------------------------------------------------------------------------------------------


def test_secrets_are_neither_needed_nor_kept(tmp_path):
    data = {
        "pool": {"id": "p"},
        "job": {"id": "j", "onAllTasksComplete": "terminatejob"},
        "tasks": [{"id": "t", "commandLine": "x", "environmentSettings": [{"name": "KEY", "value": "s3cret", "secret": True}]}],
    }
    with dry_run(jobfile.parse(data), ledger=tmp_path / "dry.db") as found:
        assert (found.job.succeeded, found.job.tasks["t"].spec.environment_settings[0].value) == (1, WITHHELD)
    assert [file.name for file in tmp_path.iterdir()] == ["dry.db"]
    assert b"s3cret" not in (tmp_path / "dry.db").read_bytes()


def test_an_earlier_dry_run_makes_room_and_nothing_else_does(tmp_path):
    ledger = tmp_path / "dry.db"
    for count in (1, 2):
        with dry_run(job_file(count), ledger=ledger, replace=True) as found:
            assert found.job.succeeded == count
    real = tmp_path / "real.db"

    async def work():
        async with await Engine.open(real, root=tmp_path / "nodes"):
            pass

    asyncio.run(work())
    before = real.read_bytes()
    for replace in (True, False):
        with pytest.raises(RequestRefused, match=r"real work, and no dry run may be recorded there; name another one"):
            dry_run(job_file(), ledger=real, replace=replace)
    assert real.read_bytes() == before


def test_a_named_dry_run_is_continued_where_its_time_ends(tmp_path):
    ledger = tmp_path / "dry.db"
    with dry_run(job_file(), minute_each(), ledger=ledger) as first:
        end = [one.recorded_at for one in first.store.read()][-1]
    other = jobfile.parse({"pool": {"id": "p", "nodes": 2}, "job": {"id": "k"}, "tasks": [{"id": "t", "commandLine": "x"}]})
    with dry_run(other, minute_each(), ledger=ledger) as second:
        assert second.job.succeeded == 1
        times = [one.recorded_at for one in second.store.read()]
        assert times == sorted(times)
        assert times[-1] >= end + MINUTE
        assert second.world.jobs[JobId("j")].state == "completed"


def test_nobody_is_the_guest_of_a_dry_run(tmp_path):
    async def scene():
        around = evolve(here(), dry_run="seed 7")
        async with await Engine.open(tmp_path / "dry.db", executors={"local": DryRunExecutor()}, surroundings=around):
            with pytest.raises(RequestRefused, match="dry run's, and nothing real"):
                await Guest.open(tmp_path / "dry.db")

    asyncio.run(scene())


# --- recordings -----------------------------------------------------------------------------------------------


def test_what_was_recorded_is_taken_again():
    trouble = minute_each(
        LaunchRule(kinds=("task",), tasks=("t1",), attempts=(1,), exit_code=3, duration=Span(fixed=Duration(7 * SECOND))),
        LaunchRule(kinds=("preparation",), nodes=("p-2",), not_started="BlobNotFound"),
        LaunchRule(kinds=("task",), tasks=("t2",), signal=9, duration=Span(fixed=Duration(11 * SECOND))),
    )
    kind = {"jobPreparationTask": {"commandLine": "x"}, "jobReleaseTask": {"commandLine": "x"}, "constraints": {"maxTaskRetryCount": 1}}
    with dry_run(job_file(**kind), trouble) as found:
        recordings = recordings_of(found.store)
        first = [type(one.event) for one in found.store.read()]
        took = found.took
    with dry_run(job_file(**kind), Assumptions(recordings=recordings, recorded_name="before")) as again:
        assert again.world.dry_run == "recorded before"
        assert [type(one.event) for one in again.store.read()] == first
        assert again.took == pytest.approx(took, abs=SECOND)
        assert (again.job.tasks["t1"].retries, again.job.tasks["t2"].exit_code) == (1, 137)
        assert set(again.told) == {"recorded"}
    with dry_run(job_file(6, **kind), Assumptions(recordings=recordings)) as more:
        assert more.told["median"] == 2
