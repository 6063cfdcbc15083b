"""machines and completion."""

import json
import os
from pathlib import Path

import pytest

LEDGER = Path(".jobledger/ledger.db")
OUTPUT = Path(".jobledger/nodes/p")


# --- machines and completion ----------------------------------------------------------------------------------


def test_machines_in_each_format(invoke):
    out = invoke("machines", "release").stdout
    assert out.splitlines()[0].split() == ["|", "in", "state", "|", "event", "|", "leads", "to", "|", "because", "|"]
    assert invoke("machines", "job", "--format", "mermaid").stdout.startswith("stateDiagram-v2\n    [*] --> active : job.created\n")
    assert json.loads(invoke("machines", "task", "--format", "json").stdout)["name"] == "task"
    assert [machine["name"] for machine in json.loads(invoke("machines", "--format", "json").stdout)][:2] == ["pool", "allocation"]
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
