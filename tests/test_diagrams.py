"""Diagrams and tables say what the machines say: each is read back and compared with the table it was made from."""

import re

import pytest

from jobledger.core.machine import ABSENT, Machine, Row
from jobledger.core.machines import MACHINES
from jobledger.diagrams import as_json, mermaid, state_machines_markdown, table

ALL = [pytest.param(machine, id=name) for name, machine in MACHINES.items()]
ARROW = re.compile(r"    (?P<source>\[\*\]|\w+) --> (?P<target>\[\*\]|\w+)(?: : (?P<events>[a-z., -]+))?")
ALIAS = re.compile(r'    state "(?P<state>[a-z-]+)" as (?P<name>\w+)')


def read_back(diagram):
    """The arrows of a diagram as (source, event, target), and the states that it ends in."""
    first, *lines = diagram.splitlines()
    assert first == "stateDiagram-v2"
    names = {found["name"]: found["state"] for line in lines if (found := ALIAS.fullmatch(line))}
    arrows, finals = [], []
    for line in lines:
        if ALIAS.fullmatch(line):
            continue
        arrow = ARROW.fullmatch(line)
        assert arrow is not None, line
        source = ABSENT if arrow["source"] == "[*]" else names.get(arrow["source"], arrow["source"])
        if arrow["target"] == "[*]":
            finals.append(source)
        else:
            target = names.get(arrow["target"], arrow["target"])
            arrows += [(source, event, target) for event in arrow["events"].split(", ")]
    return arrows, finals


@pytest.mark.parametrize("machine", ALL)
def test_a_diagram_has_an_arrow_for_each_row_and_one_out_of_each_final_state(machine):
    arrows, finals = read_back(mermaid(machine))
    assert sorted(arrows) == sorted((row.source, row.trigger, row.target) for row in machine.rows)
    assert finals == list(machine.finals)


@pytest.mark.parametrize("machine", ALL)
def test_a_table_has_every_row_with_its_reason_and_is_aligned(machine):
    header, rule, *lines = table(machine).splitlines()
    assert [cell.strip() for cell in header.strip("|").split("|")] == ["in state", "event", "leads to", "because"]
    assert set(rule) == {"|", "-"}
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    assert rows == [(row.source, row.trigger, row.target, row.why) for row in machine.rows]
    assert len({len(line) for line in (header, rule, *lines)}) == 1


@pytest.mark.parametrize("machine", ALL)
def test_json_is_enough_to_make_the_machine_again(machine):
    plain = as_json(machine)
    events = {row.trigger: row.event for row in machine.rows}
    again = Machine(
        plain["name"], plain["of"], [Row(row["source"], events[row["event"]], row["target"], row.get("why", "")) for row in plain["rows"]]
    )
    assert again.rows == machine.rows
    assert (plain["initial"], plain["states"], plain["finals"]) == (ABSENT, list(again.states), list(again.finals))


def test_the_page_has_a_section_with_diagram_and_table_for_every_machine():
    page = state_machines_markdown()
    assert page.startswith("# State machines\n")
    sections = page.split("\n## ")[1:]
    assert [section.split(":")[0] for section in sections] == list(MACHINES)
    for section, machine in zip(sections, MACHINES.values(), strict=True):
        assert f"```mermaid\n{mermaid(machine)}```\n" in section
        assert table(machine) in section
