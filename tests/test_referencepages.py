"""The generated reference pages leave nothing out."""

import inspect
import re

import attrs
import click

import jobledger
from jobledger.cli import main
from jobledger.core.events import STORED
from jobledger.core.machines import MACHINES
from jobledger.referencepages import all_commands, api_markdown, cli_markdown, events_markdown


def sections(page):
    return {part.split("\n", 1)[0]: part for part in page.split("\n## ")[1:]}


def test_every_event_is_there_with_its_version_and_all_its_fields():
    found = sections(events_markdown())
    assert list(found) == [name for name, _ in STORED.values()]
    for event, (name, version) in STORED.items():
        assert f"Version {version}." in found[name]
        assert re.findall(r"^- `(\w+)`: \S", found[name], re.MULTILINE) == [field.name for field in attrs.fields(event)]


def test_every_row_of_every_machine_is_told_at_its_event():
    found = sections(events_markdown())
    for machine in MACHINES.values():
        for row in machine.rows:
            if row.source == row.target:
                told = re.findall(rf"^Leaves the {machine.name} as it is: (.*)\.$", found[row.trigger], re.MULTILINE)
            else:
                told = re.findall(rf"^Moves the {machine.name} from (.*) to {row.target}\.$", found[row.trigger], re.MULTILINE)
            assert row.source in " or ".join(told).split(" or "), row


def test_every_command_is_there_with_its_help_and_all_its_options():
    page = cli_markdown()
    found = sections(page)
    commands = dict(all_commands(main))
    assert list(found) == list(commands)
    assert {"run", "nodes", "nodes reboot"} <= set(commands)
    for name, command in commands.items():
        assert (command.help or "").split("\n")[0] in found[name]
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{name} {parameter.name} has no help"
                assert f"- `{', '.join(parameter.opts)}" in found[name]
            else:
                assert (parameter.name or "").upper() in found[name] or isinstance(parameter.type, click.Choice)
    assert "\b" not in page


def test_every_command_has_an_example():
    for name, section in sections(cli_markdown()).items():
        assert re.search(rf"```text\n(.*\n)*?.*jobledger {name.removesuffix(' list')}", section), name


def test_the_public_api_is_a_list_and_each_of_it_is_told():
    found = sections(api_markdown())
    assert list(found) == jobledger.__all__ == sorted(jobledger.__all__)
    for name, section in found.items():
        thing = getattr(jobledger, name)
        if inspect.isclass(thing):
            assert inspect.getdoc(thing) not in {None, inspect.getdoc(object)}, f"{name} has no docstring"
            assert (inspect.getdoc(thing) or "").splitlines()[0] in section
        assert "0x" not in section, "the address of an object: the page would never be current"
