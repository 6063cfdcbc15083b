"""`jobledger run --executor dry-run`: nothing runs, the ledger says so, and real commands leave it alone."""

import json
import os
from contextlib import closing
from pathlib import Path

import pytest

from jobledger import SqliteStore

EXAMPLES = Path(__file__).parents[2] / "examples"
SAMPLE = EXAMPLES / "job_prep_release.yaml"
STORM = EXAMPLES / "scenarios" / "storm.yaml"
DRY = Path(".jobledger/dry-run.db")
DRY_RUN = ("--executor", "dry-run")


def test_a_dry_run_says_that_it_is_one_and_touches_nothing_else(invoke, write, folder):
    file = write("/bin/sh -c 'touch ran'", "/bin/false", prep="/bin/touch prepared")
    done = invoke("run", file, *DRY_RUN)
    assert done.exit_code == 0, done.output
    assert "This is a dry run (everything goes well): nothing of it was run, and its times are virtual." in done.stdout
    assert "Job j is completed (AllTasksComplete): 2 tasks, 2 succeeded, 0 failed" in done.stdout
    assert "Virtual time: " in done.stdout
    assert "Output:" not in done.stdout
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["dry-run.db", "job.json"]


def test_the_next_one_makes_room_and_the_same_seed_is_the_same(invoke, folder):
    assert invoke("run", SAMPLE, *DRY_RUN, "--seed", 7).exit_code in {0, 1}
    first = DRY.read_bytes()
    invoke("run", SAMPLE, *DRY_RUN, "--seed", 8)
    assert DRY.read_bytes() != first
    invoke("run", SAMPLE, *DRY_RUN, "--seed", 7)
    assert DRY.read_bytes() == first


def test_what_the_environment_names_is_for_real_work(invoke, write, monkeypatch):
    monkeypatch.setenv("JOBLEDGER_LEDGER", "real.db")
    assert invoke("run", write("x"), *DRY_RUN).exit_code == 0
    assert not Path("real.db").exists()
    assert invoke("run", write("x"), *DRY_RUN, "--ledger", "mine.db").exit_code == 0
    assert Path("mine.db").exists()


def test_a_scenario_fails_what_it_says(invoke):
    done = invoke("run", SAMPLE, *DRY_RUN, "--seed", 3, "--scenario", STORM)
    assert done.exit_code == 1
    assert "task005: BlobNotFound" in done.stdout
    assert "from the scenario" in done.stdout
    assert invoke("run", SAMPLE, *DRY_RUN, "--scenario", "-", text="launches: [{tasks: task001, exitCode: 4}]").exit_code == 1


def test_a_wrong_scenario_is_refused_with_every_mistake(invoke):
    done = invoke("run", SAMPLE, *DRY_RUN, "--scenario", "-", text="launches: [{task: t, exitCode: 4}]\nnodes: [{fault: gone, at: PT1S}]")
    assert done.exit_code == 2
    assert "launches[0].task: is not known here: did you mean 'tasks'?" in done.stderr
    assert "nodes[0].fault: must be one of" in done.stderr
    assert not DRY.exists()


def test_the_plan_comes_in_place_of_the_summary(invoke):
    table = invoke("run", SAMPLE, *DRY_RUN, "--plan", "table").stdout
    assert table.startswith("job prep-release-sample on pool workstation (a dry run: everything goes well)")
    assert json.loads(invoke("run", SAMPLE, *DRY_RUN, "--plan", "json").stdout)["dryRun"] == "everything goes well"
    assert invoke("run", SAMPLE, *DRY_RUN, "--plan", "sh").stdout.startswith("#!/bin/sh")


def test_json_has_the_mark_and_where_durations_are_from(invoke):
    told = json.loads(invoke("run", SAMPLE, *DRY_RUN, "--start", "2031-05-06T07:08:09Z", "--json").stdout)
    assert (told["dryRun"], told["durationsFrom"]) == ("everything goes well", {"drawn": 12})
    assert told["job"]["creationTime"] == "2031-05-06T07:08:09.000000Z"
    assert told["virtualSeconds"] > 60


def test_an_earlier_run_gives_its_durations(invoke, write):
    real = write("/bin/true", "/bin/sh -c 'exit 3'")
    assert invoke("run", real, "-q").exit_code == 1
    told = json.loads(invoke("run", real, *DRY_RUN, "--recorded", ".jobledger/ledger.db", "--json").stdout)
    assert told["durationsFrom"] == {"recorded": 2}
    assert [task["executionInfo"]["exitCode"] for task in told["tasks"]] == [0, 3]
    assert told["dryRun"].startswith("recorded ")
    assert invoke("run", real, *DRY_RUN, "--recorded", "nowhere.db").exit_code == 4


def test_secrets_need_not_be_there(invoke, folder):
    (folder / "job.yaml").write_text(
        "pool: {id: p}\njob: {id: j, onAllTasksComplete: terminatejob}\n"
        "tasks: [{id: t, commandLine: x, environmentSettings: [{name: KEY, valueFrom: {environment: NOT_SET}}]}]\n"
    )
    assert "NOT_SET" not in os.environ
    assert invoke("run", "job.yaml").exit_code == 2
    assert invoke("run", "job.yaml", *DRY_RUN).exit_code == 0
    (folder / "job.yaml").write_text(
        "pool: {id: p}\njob: {id: j}\ntasks: [{id: t, commandLine: x, environmentSettings: [{name: K, valueFrom: {nothing: x}}]}]\n"
    )
    wrong = invoke("run", "job.yaml", *DRY_RUN)
    assert (wrong.exit_code, wrong.stderr.count("valueFrom")) == (2, 1)


def test_a_job_that_comes_to_a_standstill_says_so(invoke, write):
    file = write("x", job={"onTaskFailure": "performexitoptionsjobaction"})
    data = json.loads(Path(file).read_text())
    data["tasks"][0]["exitConditions"] = {"default": {"jobAction": "disable"}}
    Path(file).write_text(json.dumps(data))
    done = invoke("run", file, *DRY_RUN, "--scenario", "-", text="launches: [{exitCode: 1}]")
    assert done.exit_code == 1
    assert "nothing more can happen, so the dry run ends here, before the end of job j" in done.stderr
    assert "Job j is disabled" in done.stdout


# --- the ledger of a dry run ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [("submit", SAMPLE), ("terminate", "prep-release-sample"), ("pools", "delete", "workstation"), ("run", SAMPLE), ("engine",)]
)
def test_real_commands_refuse_it_by_name(invoke, words):
    invoke("run", SAMPLE, *DRY_RUN)
    before = invoke("events", "--ledger", DRY).stdout
    done = invoke(*words, "--ledger", DRY)
    assert done.exit_code == 2
    assert "dry run's, and nothing real" in done.stderr
    assert "name another one" in done.stderr
    assert invoke("events", "--ledger", DRY).stdout == before


def test_it_refuses_the_ledger_of_real_work(invoke, write):
    file = write("/bin/true")
    invoke("run", file, "-q", "--ledger", "real.db")
    done = invoke("run", file, *DRY_RUN, "--ledger", "real.db")
    assert done.exit_code == 2
    assert "real.db is one of real work" in done.stderr
    DRY.parent.mkdir(exist_ok=True)
    Path("real.db").rename(DRY)
    assert invoke("run", file, *DRY_RUN).exit_code == 2
    with closing(SqliteStore.open(DRY, read_only=True)) as store:
        assert store.head().position


@pytest.mark.parametrize("words", [("status",), ("status", "j"), ("explain", "j")])
def test_what_reads_it_tells_the_mark(invoke, write, words):
    invoke("run", write("x"), *DRY_RUN, "--seed", 5)
    assert "This is a dry run (seed 5)" in invoke(*words, "--ledger", DRY).stdout
    assert json.loads(invoke(*words, "--ledger", DRY, "--json").stdout)["dryRun"] == "seed 5"


@pytest.mark.parametrize("words", [("jobs",), ("jobs", "show", "j"), ("tasks", "j"), ("pools",), ("nodes",)])
def test_every_document_has_the_mark(invoke, write, words):
    invoke("run", write("x"), *DRY_RUN)
    assert json.loads(invoke(*words, "--ledger", DRY, "--json").stdout)["dryRun"] == "everything goes well"


def test_time_in_it_stands_still(invoke, write):
    """A job that is not over has not been so for the years since the virtual beginning."""
    invoke("run", write("x", job={"onAllTasksComplete": "noaction"}), *DRY_RUN, "--leave-active")
    for words in (("status",), ("jobs",), ("status", "j")):
        shown = invoke(*words, "--ledger", DRY).stdout
        assert "active" in shown
        assert "1m 37s" in next(line for line in shown.splitlines() if "2000-01-01" in line)


# --- its options ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--seed", 1), "--seed is for dry runs: add --executor dry-run"),
        (("--plan", "table", "--scenario", "x"), "--scenario, --plan is for dry runs"),
        ((*DRY_RUN, "--plan", "table", "--json"), "--plan and --json exclude each other"),
        ((*DRY_RUN, "--start", "tomorrow"), "'tomorrow' is not a time: write it as 2000-01-01T00:00:00.000000Z"),
        ((*DRY_RUN, "--start", "1960-01-01"), "1960-01-01 is before 1970"),
    ],
)
def test_options_that_make_no_sense_are_refused(invoke, words, said):
    done = invoke("run", SAMPLE, *words)
    assert done.exit_code == 2
    assert said in done.stderr
