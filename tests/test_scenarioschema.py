"""The scenario file's schema and page: made from the records, complete, and of one mind with the reader."""

from pathlib import Path

import jsonschema
import pytest

from jobledger import plaindata, scenarioschema
from jobledger.executors.fortune import ORDINARY_TROUBLE, Scenario
from jobledger.jobfile import JobFileError
from jobledger.jsonnames import names_of, record_in
from jobledger.scenariofile import load_scenario, parse_scenario

TOP = Path(__file__).parents[1]


def records_below(record):
    inner = {found for name in names_of(record).values() if (found := record_in(name.type)) is not None}
    return {record}.union(*map(records_below, inner))


def test_every_property_has_a_meaning_and_nothing_else_has():
    used = records_below(Scenario)
    assert set(scenarioschema.RECORDS) == set(scenarioschema.MEANINGS) == used
    assert {record: list(meanings) for record, meanings in scenarioschema.MEANINGS.items()} == {record: list(names_of(record)) for record in used}


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(scenarioschema.scenario_schema())


@pytest.mark.parametrize(
    ("data", "is_right"),
    [
        ({}, True),
        ({"bootDuration": "PT1M"}, True),
        ({"bootDuration": {"uniform": {"least": "PT1M", "most": "PT2M"}}}, True),
        ({"bootDuration": {"uniform": {"least": "PT1M"}}}, False),
        ({"bootDuration": {}}, False),
        ({"bootDuration": "a minute"}, False),
        ({"launches": [{"tasks": "t*", "exitCode": 255}]}, True),
        ({"launches": [{"tasks": ["t*", "u"], "attempts": 2, "duration": "PT1M"}]}, True),
        ({"launches": [{"tasks": "t*"}]}, False),
        ({"launches": [{"exitCode": 256}]}, False),
        ({"launches": [{"exitCode": 1, "probability": 0}]}, False),
        ({"launches": [{"exitCode": 1, "probability": 1}]}, True),
        ({"launches": [{"exitCode": 1, "kinds": "jobs"}]}, False),
        ({"launches": [{"duration": {"lognormal": {"median": "PT1M", "sigma": 6}}}]}, False),
        ({"launches": {"exitCode": 1}}, False),
        ({"nodes": [{"fault": "lost", "at": "PT1M"}]}, True),
        ({"nodes": [{"fault": "lost"}]}, False),
        ({"nodes": [{"fault": "lost", "at": "PT1M", "meanTimeBetween": "PT1M"}]}, False),
        ({"node": []}, False),
    ],
)
def test_the_schema_judges_as_the_reader_does(data, is_right):
    assert jsonschema.Draft202012Validator(scenarioschema.scenario_schema()).is_valid(data) is is_right
    if is_right:
        parse_scenario(data)
    else:
        with pytest.raises(JobFileError):
            parse_scenario(data)


def test_the_examples_are_right_by_the_schema():
    files = sorted((TOP / "examples" / "scenarios").glob("*.yaml"))
    assert files
    for file in files:
        jsonschema.Draft202012Validator(scenarioschema.scenario_schema()).validate(plaindata.read_yaml(file.read_text()))
        load_scenario(file)


def test_the_scenario_that_the_page_shows_is_the_one_that_a_seed_draws_from():
    page = scenarioschema.scenario_reference_markdown()
    assert parse_scenario(plaindata.read_yaml(page.split("```yaml\n")[1].split("```")[0])) == ORDINARY_TROUBLE
