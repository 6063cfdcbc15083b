"""events: chosen, in order, and as they happen."""

import json
import signal
from pathlib import Path

import pytest

from jobledger.core.events import STORED, EngineStarted, EngineStopped
from jobledger.core.ids import Micros
from jobledger.core.requests import DeleteJob
from jobledger.testing.scenario import CannotStart, Exits

LEDGER = Path(".jobledger/ledger.db")
OUTPUT = Path(".jobledger/nodes/p")


# --- events ---------------------------------------------------------------------------------------------------


def test_events_as_json_have_exactly_the_keys_promised(invoke, record, scenario):
    s = scenario("t1")
    record(s)
    result = invoke("events", "--json")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["type"] for event in found] == [STORED[type(event)][0] for event in s.events]
    assert [event["position"] for event in found] == list(range(1, len(found) + 1))
    keys = ["position", "stream", "type", "version", "recordedAt", "causation", "correlation", "actor", "data", "hash"]
    assert all(list(event) == keys for event in found)


def test_events_as_text_are_a_line_each(invoke, record, scenario):
    s = scenario("t1", "t2", script={"t1": Exits(3), "t2": CannotStart()}, nodes=2)
    s.finish(DeleteJob(job="sample"))
    record(s)
    out = invoke("events").stdout.splitlines()
    assert [line.split()[0] for line in out] == [str(position) for position in range(1, len(s.log) + 1)]
    told = [line.split(maxsplit=3)[3] for line in out]
    assert any(line.split() == ["pool.created", "pool", "p", "executor=local", "nodes=2"] for line in told)
    assert any(line.startswith("task.added") and "sample/t1" in line and "commandLine=work" in line for line in told)
    assert any(line.startswith("preparation.completed") and "sample @p-1" in line and "result=success exit_code=0" in line for line in told)
    assert any(line.startswith("task.completed") and "exit_code=3" in line and 'failure="FailureExitCode: ' in line for line in told)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("--job", "sample"), lambda event: getattr(event, "job", None) == "sample"),
        (("--task", "t2"), lambda event: getattr(event, "task", None) == "t2"),
        (("--node", "p-2"), lambda event: getattr(event, "node", None) == "p-2"),
        (("--type", "task.*"), lambda event: STORED[type(event)][0].startswith("task.")),
        (("--type", "job.completed"), lambda event: STORED[type(event)][0] == "job.completed"),
        (
            ("--job", "sample", "--node", "p-1", "--type", "*.completed"),
            lambda event: getattr(event, "node", None) == "p-1" and STORED[type(event)][0].endswith(".completed"),
        ),
        (("--job", "nobody"), lambda event: False),
    ],
)
@pytest.mark.parametrize("following", [False, True])
def test_events_are_chosen_by_what_they_name(invoke, record, scenario, options, wanted, following):
    s = scenario("t1", "t2", "t3", nodes=2)
    record(s)
    follow = ("--follow", "--until", len(s.log)) if following else ()
    found = [json.loads(line)["position"] for line in invoke("events", "--json", *options, *follow).stdout.splitlines()]
    assert found == [position for position, event in enumerate(s.events, 1) if wanted(event)]


def test_events_between_positions(invoke, record, scenario):
    record(scenario("t1"))

    def positions(*options):
        return [json.loads(line)["position"] for line in invoke("events", "--json", *options).stdout.splitlines()]

    assert positions("--after", 3, "--until", 5) == [4, 5]
    assert positions("--after", 3, "--until", 5, "--follow") == [4, 5]
    assert positions("--after", 5, "--until", 5, "--follow") == []
    assert positions("--until", 2) == [1, 2]


def test_a_type_that_no_event_has_is_bad_input_with_the_one_that_was_meant(invoke, record, scenario):
    record(scenario("t1"))
    result = invoke("events", "--type", "task.complete")
    assert result.exit_code == 2
    assert "no event is called 'task.complete'; did you mean task.completed?" in result.stderr


def test_followed_events_come_as_they_happen_and_an_interrupt_ends_it(start, append, soon):
    append([(EngineStarted(version="1", host="h", pid=1, epoch=1), Micros(1))])
    process = start("events", "--follow", "--json", "--after", 0)
    first = json.loads(soon(process, process.stdout.readline))
    append([(EngineStopped(epoch=1), Micros(2))])
    second = json.loads(soon(process, process.stdout.readline))
    assert [(event["position"], event["type"]) for event in (first, second)] == [(1, "engine.started"), (2, "engine.stopped")]
    process.send_signal(signal.SIGINT)
    out, err = soon(process, process.communicate)
    assert (process.returncode, out, err) == (130, "", "")


def test_a_reader_that_has_seen_enough_is_no_error(start, append, soon):
    append([(EngineStarted(version="1", host="h", pid=1, epoch=1), Micros(at)) for at in range(5_000)])
    process = start("events", "--json")
    soon(process, process.stdout.readline)
    process.stdout.close()
    assert soon(process, process.stderr.read) == ""
    assert soon(process, process.wait) == 0
