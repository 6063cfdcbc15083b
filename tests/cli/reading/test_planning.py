"""plan, compare and replay as commands: forms, exit status, and ledgers that are not in order."""

import json
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from jobledger.cli import main
from jobledger.core.events import EngineStarted, TaskRunning
from jobledger.core.requests import CreatePool, DeleteJob, SubmitJob
from jobledger.core.specs import JobSpec, PoolInfo, PoolSpec, TaskSpec
from jobledger.testing.scenario import Exits

LEDGER = Path(".jobledger/ledger.db")
OTHER = Path("copies/other.db")


# --- plan -----------------------------------------------------------------------------------------------------


def test_plan_prints_each_form(invoke, record, scenario, folder):
    record(scenario("t1", "t2"))
    text = invoke("plan", "sample")
    assert text.exit_code == 0
    assert text.stdout.startswith("job sample on pool p (a real run), submitted 2026-11-23T14:33:35")
    found = json.loads(invoke("plan", "sample", "--format", "json").stdout)
    assert [one["task"] for one in found["executions"]] == ["jobpreparation", "t1", "t2", "jobrelease"]
    script = invoke("plan", "sample", "--format", "sh").stdout
    assert subprocess.run(["/bin/sh", "-n"], input=script, text=True, check=False).returncode == 0


def test_plan_works_on_a_copy_and_writes_nothing(invoke, record, scenario, folder):
    record(scenario("t1"))
    (folder / "copies").mkdir()
    shutil.copy(folder / LEDGER, folder / OTHER)
    (folder / OTHER).chmod(0o444)
    before = (folder / OTHER).read_bytes()
    assert invoke("plan", "sample", "--ledger", OTHER).exit_code == 0
    assert (folder / OTHER).read_bytes() == before


def test_plan_says_so_of_a_dry_run(invoke, append, scenario):
    s = scenario("t1")
    append([(EngineStarted(version="1", host="h", pid=1, epoch=1, dry_run="seed 7"), s.log[0][1]), *s.log])
    assert "(a dry run: seed 7)" in invoke("plan", "sample").stdout
    assert json.loads(invoke("plan", "sample", "--format", "json").stdout)["dryRun"] == "seed 7"
    assert ", a dry run (seed 7): 3 executions" in invoke("plan", "sample", "--format", "sh").stdout


def test_plan_of_a_job_that_is_not_there_is_refused(invoke, record, scenario):
    record(scenario("t1"))
    result = invoke("plan", "sampel")
    assert result.exit_code == 3
    assert result.stderr == "jobledger: refused (JobNotFound): the ledger knows no job sampel\n"


# --- compare --------------------------------------------------------------------------------------------------


def test_compare_tells_by_its_status_whether_tasks_ended_the_same_way(invoke, record, scenario):
    record(scenario("t1", "t2"))
    record(scenario("t1", "t2", nodes=2), OTHER)
    record(scenario("t1", "t2", script={"t2": Exits(3)}), Path("copies/worse.db"))
    same = invoke("compare", LEDGER, OTHER)
    assert same.exit_code == 0
    assert same.stdout.splitlines()[-1].startswith("the same: every one of 2 tasks ended as planned")
    worse = invoke("compare", LEDGER, "copies/worse.db")
    assert worse.exit_code == 1
    assert "t2: planned succeeded, really failed, exit 3 (FailureExitCode)" in worse.stdout
    as_json = invoke("compare", LEDGER, "copies/worse.db", "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["same"] is False


def test_compare_works_on_ledgers_that_may_not_be_written(invoke, record, scenario, folder):
    record(scenario("t1"))
    (folder / "copies").mkdir()
    shutil.copy(folder / LEDGER, folder / OTHER)
    (folder / OTHER).chmod(0o444)
    before = (folder / OTHER).read_bytes()
    assert invoke("compare", OTHER, OTHER).exit_code == 0
    assert (folder / OTHER).read_bytes() == before


def test_compare_asks_for_the_job_where_there_are_several(invoke, record, scenario):
    s = scenario("t1")
    s.finish(SubmitJob(spec=JobSpec(id="other", pool_info=PoolInfo(pool_id="p")), tasks=(TaskSpec(id="t", command_line="work"),)))
    record(s)
    result = invoke("compare", LEDGER, LEDGER)
    assert result.exit_code == 2
    assert "both ledgers have the jobs sample, other: say which with --job" in result.stderr
    assert invoke("compare", LEDGER, LEDGER, "--job", "other").exit_code == 0


def test_compare_names_the_ledger_that_has_not_the_job(invoke, record, scenario):
    record(scenario("t1"))
    s = scenario("t1", run=False)
    s.log.clear()
    s.when(CreatePool(spec=PoolSpec(id="q", nodes=1)))
    record(s, OTHER)
    result = invoke("compare", LEDGER, OTHER, "--job", "sample")
    assert result.exit_code == 3
    assert result.stderr == f"jobledger: refused (JobNotFound): {OTHER}: the ledger knows no job sample\n"
    assert "no job in common: sample in the first, none in the second" in invoke("compare", LEDGER, OTHER).stderr


# --- replay ---------------------------------------------------------------------------------------------------


def test_replay_of_a_clean_ledger_is_one_line_an_event_and_says_clean(invoke, record, scenario):
    s = scenario("t1")
    s.finish(DeleteJob(job="sample"))
    record(s)
    result = invoke("replay", LEDGER)
    assert result.exit_code == 0
    *story, empty, verdict = result.stdout.splitlines()
    assert [int(line.split()[0]) for line in story] == list(range(1, len(s.log) + 1))
    assert empty == ""
    assert verdict.startswith(f"clean: {len(s.log)} events, ")
    assert next(line for line in story if "task.running" in line).endswith("[task preparing -> running]")


def broken_log(s):
    """A history in which a task is started twice."""
    number = next(number for number, (event, _) in enumerate(s.log) if isinstance(event, TaskRunning))
    return number, [*s.log[: number + 1], s.log[number], *s.log[number + 1 :]]


def test_replay_names_each_finding_and_goes_on_after_what_cannot_be(invoke, append, scenario):
    number, log = broken_log(scenario("t1"))
    append(log)
    result = invoke("replay", LEDGER)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    at = next(index for index, line in enumerate(lines) if line.startswith("         !! fold: "))
    assert lines[at - 1].split()[0] == str(number + 2)
    assert lines[at + 1] == "            from here on what happens is judged by the events alone"
    assert any(line.split()[:1] == [str(len(log))] for line in lines)
    end = lines[lines.index("") + 1 :]
    assert end[0].split()[1] in {"finding:", "findings:"}
    assert f"  position {number + 2}, task sample/t1: only_moves_of_the_tables" in end
    assert "    (Whatever happens to a thing is a row of its machine's table.)" in end


def test_replay_as_json_has_an_object_a_line_and_a_summary(invoke, append, scenario):
    number, log = broken_log(scenario("t1"))
    append(log)
    result = invoke("replay", LEDGER, "--json")
    assert result.exit_code == 1
    *story, last = [json.loads(line) for line in result.stdout.splitlines()]
    assert [one["position"] for one in story] == list(range(1, len(log) + 1))
    assert story[number]["moves"] == [{"machine": "task", "entity": "sample/t1", "from": "preparing", "to": "running"}]
    assert [len(one["findings"]) > 0 for one in story] == [one["position"] == number + 2 for one in story]
    summary = last["summary"]
    assert (summary["clean"], summary["events"], summary["findings"]) == (False, len(log), story[number + 1]["findings"])
    assert list(summary["findings"][0]) == ["position", "invariant", "text", "entity", "sentence"]


def test_replay_tells_of_one_job_or_node_and_judges_everything(invoke, append, scenario):
    _, log = broken_log(scenario("t1", nodes=2))
    append(log)
    for option, value, name in (("--job", "other", "job"), ("--node", "p-2", "node"), ("--job", "sample", "job")):
        result = invoke("replay", LEDGER, option, value, "--json")
        *story, last = [json.loads(line) for line in result.stdout.splitlines()]
        assert result.exit_code == 1
        assert {one["data"].get(name) for one in story} == ({value} if value != "other" else set())
        assert last["summary"]["events"] == len(log)
        assert last["summary"]["findings"]


def test_replay_of_a_damaged_ledger_tells_what_it_can_and_ends_with_2(invoke, record, scenario):
    s = scenario("t1")
    record(s)
    with sqlite3.connect(LEDGER) as damaged:
        for (name,) in damaged.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            damaged.execute(f'DROP TRIGGER "{name}"')
        damaged.execute("UPDATE events SET actor = 'nobody' WHERE position = 12")
    damaged.close()
    result = invoke("replay", LEDGER)
    assert result.exit_code == 2
    assert "(at position 12)" in result.stderr
    assert result.stdout.splitlines()[-1].startswith("clean as far as it can be read: 11 events")
    as_json = invoke("replay", LEDGER, "--json")
    assert as_json.exit_code == 2
    assert json.loads(as_json.stdout.splitlines()[-1])["summary"]["clean"] is False


@pytest.mark.parametrize("content", [b"", b"this is no ledger", b"SQLite format 3\0" + b"\0" * 200])
def test_replay_of_what_is_no_ledger_ends_with_2(invoke, folder, content):
    (folder / "file.db").write_bytes(content)
    result = invoke("replay", "file.db")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("jobledger: error: ")


def test_replay_of_a_file_that_is_not_there_ends_with_2(invoke, folder):
    assert invoke("replay", "none.db").exit_code == 2
    assert invoke("replay", ".").exit_code == 2
    assert list(folder.iterdir()) == []


# --- completion -----------------------------------------------------------------------------------------------


def completions(*words):
    """What is offered for the last of the words."""
    return [item.value for item in ShellComplete(main, {}, "jobledger", "_JOBLEDGER_COMPLETE").get_completions(list(words[:-1]), words[-1])]


def test_ids_are_completed_from_the_ledger_that_the_command_line_names(record, scenario):
    record(scenario("t1"), OTHER)
    assert completions("plan", "s") == []
    assert completions("plan", "--ledger", str(OTHER), "s") == ["sample"]
    assert completions("plan", "sample", "--format", "") == ["table", "json", "sh"]
    assert completions("compare", str(OTHER), str(OTHER), "--job", "s") == ["sample"]
    assert completions("replay", str(OTHER), "--job", "") == ["sample"]
    assert completions("replay", str(OTHER), "--node", "") == ["p-1"]
