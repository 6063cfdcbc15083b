"""machines and completion."""

import json
import os
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from jobledger.cli import main

LEDGER = Path(".jobledger/ledger.db")
OUTPUT = Path(".jobledger/nodes/p")


# --- machines and completion ----------------------------------------------------------------------------------


def test_machines_in_each_format(invoke):
    out = invoke("machines", "release").stdout
    assert out.splitlines()[0].split() == ["|", "in", "state", "|", "event", "|", "leads", "to", "|", "because", "|"]
    assert invoke("machines", "job", "--format", "mermaid").stdout.startswith("stateDiagram-v2\n    [*] --> active : job.created\n")
    assert json.loads(invoke("machines", "task", "--format", "json").stdout)["name"] == "task"
    model = json.loads(invoke("machines", "--format", "json").stdout)
    assert [machine["name"] for machine in model["machines"]][:2] == ["pool", "allocation"]
    assert {"release_completes_once", "positions_have_no_gaps"} <= {one["name"] for one in model["invariants"]}
    assert model["events"][0]["type"] == "engine.started"
    everything = invoke("machines").stdout
    assert everything.startswith("pool: ")
    assert "\nrelease: a job's release task on one node\n" in everything
    assert invoke("machines", "--format", "mermaid").stdout.count("stateDiagram-v2\n") == everything.count("| in state ")


def test_a_machine_that_does_not_exist_is_bad_input(invoke):
    result = invoke("machines", "jub")
    assert result.exit_code == 2
    assert "'jub'" in result.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_a_completion_script_names_the_command(invoke, shell):
    result = invoke("completion", shell)
    assert result.exit_code == 0
    assert "_JOBLEDGER_COMPLETE" in result.stdout


def test_ids_are_completed_from_the_ledger(start, record, scenario, soon):
    record(scenario("task1", "task2", "other"))

    def completed(words):
        asked = {"_JOBLEDGER_COMPLETE": "fish_complete", "COMP_WORDS": f"jobledger {words}", "COMP_CWORD": words.split(" ")[-1]}
        process = start(env={**os.environ, **asked})
        out, err = soon(process, process.communicate)
        assert (process.returncode, err) == (0, "")
        return [line.removeprefix("plain,") for line in out.split()]

    assert completed("status s") == ["sample"]
    assert completed("explain sample task") == ["task1", "task2"]
    LEDGER.write_bytes(b"no ledger at all")
    assert completed("status s") == []
    LEDGER.unlink()
    assert completed("status s") == []


def completions(*words):
    """What is offered for the last of the words."""
    return [item.value for item in ShellComplete(main, {}, "jobledger", "_JOBLEDGER_COMPLETE").get_completions(list(words[:-1]), words[-1])]


def test_a_family_completes_its_commands_and_what_it_lists(record, scenario):
    record(scenario("t1"))
    assert {"list", "add", "terminate", "sample"} <= set(completions("tasks", ""))
    assert completions("tasks", "re") == ["reactivate"]
    assert completions("jobs", "--st") == ["--state"]
    assert completions("nodes", "reb") == ["reboot"]


def test_whatever_has_output_is_completed_and_so_are_nodes_and_types(record, scenario):
    record(scenario("t1"))
    assert completions("log", "sample", "") == ["jobpreparation", "jobrelease", "t1"]
    assert completions("files", "ls", "sample", "jobp") == ["jobpreparation"]
    assert completions("explain", "sample", "") == ["t1"]
    assert completions("log", "sample", "t1", "--node", "") == completions("events", "--node", "") == completions("nodes", "reboot", "") != []
    assert completions("events", "--type", "job.dis") == ["job.disabled", "job.disabling"]
