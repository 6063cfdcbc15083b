"""The model as data, and the page of guarantees: `src/jobledger/modeldata.py`, `guarantees.py`."""

import re
import subprocess
import sys

import attrs

from jobledger.core.events import STORED
from jobledger.core.invariants import INVARIANTS
from jobledger.core.machine import ABSENT
from jobledger.core.machines import MACHINES
from jobledger.guarantees import guarantees_markdown
from jobledger.modeldata import model_document


def test_a_tool_can_follow_a_machine_by_the_data_alone():
    """Every row's states are listed, and its event is one of the catalogue that names the machine."""
    model = model_document()
    events = {event["type"]: event for event in model["events"]}
    rows = 0
    for machine in model["machines"]:
        assert machine["initial"] == ABSENT
        for row in machine["rows"]:
            assert {row["source"], row["target"]} <= set(machine["states"])
            assert machine["name"] in events[row["event"]]["machines"]
            rows += 1
    assert rows == sum(len(machine.rows) for machine in MACHINES.values())


def test_every_event_is_there_with_its_fields():
    model = model_document()
    told = {(event["type"], event["version"]): [field["name"] for field in event["fields"]] for event in model["events"]}
    assert told == {stored: [field.name for field in attrs.fields(event)] for event, stored in STORED.items()}
    started = next(event for event in model["events"] if event["type"] == "engine.started")
    assert {field["name"]: field["optional"] for field in started["fields"]} | {"epoch": False, "dry_run": True} == {
        field["name"]: field["optional"] for field in started["fields"]
    }


def test_every_invariant_is_there_with_its_sentence():
    model = model_document()
    assert [(one["name"], one["sentence"]) for one in model["invariants"]] == [(one.name, one.sentence) for one in INVARIANTS]
    known = {event["type"] for event in model["events"]}
    assert all(one["judgedAt"] and set(one["judgedAt"]) <= known for one in model["invariants"])


def test_the_page_has_a_section_and_a_planted_bug_for_every_invariant():
    sections = re.split(r"^### ", guarantees_markdown(), flags=re.MULTILINE)[1:]
    assert [section.splitlines()[0] for section in sections] == [one.name for one in INVARIANTS]
    assert all(re.search(r"^\* Seen to fail when planted: \*.+\*\.$", section, re.MULTILINE) for section in sections)


def test_the_module_is_the_command():
    told = subprocess.run([sys.executable, "-m", "jobledger", "--version"], check=True, capture_output=True, text=True, timeout=60)
    assert told.stdout.startswith("jobledger ")
