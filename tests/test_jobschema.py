from typing import Any

import attrs
import jsonschema
import pytest

from jobledger import jobfile, jobschema
from jobledger.core import specs
from jobledger.jsonnames import names_of, record_in
from jobledger.valuefrom import ValueFrom


def records_below(record: type) -> set[type]:
    """A record and all that its fields hold."""
    inner = {found for name in names_of(record).values() if (found := record_in(name.type)) is not None}
    return {record}.union(*(records_below(found) for found in inner))


def test_every_property_of_a_job_file_has_a_meaning_and_nothing_else_has() -> None:
    used = records_below(specs.PoolSpec) | records_below(specs.JobSpec) | records_below(specs.TaskSpec) | {ValueFrom}
    assert set(jobschema.RECORDS) == set(jobschema.MEANINGS) == used
    assert {record: list(meanings) for record, meanings in jobschema.MEANINGS.items()} == {record: list(names_of(record)) for record in used}


def test_no_record_of_a_job_file_is_forgotten() -> None:
    every = {value for value in vars(specs).values() if isinstance(value, type) and attrs.has(value)}
    assert every | {ValueFrom} == set(jobschema.RECORDS)


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(jobschema.json_schema())


@pytest.mark.parametrize(
    ("place", "name"), [("pool", "nodes"), ("pool", "taskSlotsPerNode"), ("job", "priority"), ("constraints", "maxTaskRetryCount")]
)
def test_the_bounds_of_the_schema_are_those_of_the_checks(place: str, name: str) -> None:
    definition = "jobConstraints" if place == "constraints" else place
    bounds = jobschema.json_schema()["$defs"][definition]["properties"][name]

    def is_accepted(number: int) -> bool:
        job: dict[str, Any] = {"id": "j"}
        pool: dict[str, Any] = {"id": "p"}
        ({"pool": pool, "job": job}.get(place) if place != "constraints" else job.setdefault("constraints", {}))[name] = number  # type: ignore[index]
        try:
            jobfile.parse({"pool": pool, "job": job})
        except jobfile.JobFileError:
            return False
        return True

    assert [is_accepted(bounds["minimum"] + step) for step in (-1, 0)] == [False, True]
    assert [is_accepted(bounds["maximum"] + step) for step in (0, 1)] == [True, False]


@pytest.mark.parametrize(
    ("data", "is_right"),
    [
        ({"pool": {"id": "p"}, "job": {"id": "j"}}, True),
        ({"job": {"id": "j", "poolInfo": {"poolId": "p"}}}, True),
        ({"job": {"id": "j"}}, False),
        ({"pool": {"id": "p"}}, False),
        ({"pool": {"id": "p"}, "job": {"id": "j k"}}, False),
        ({"pool": {"id": "p"}, "job": {"id": "j"}, "tasks": [{"id": "t"}]}, False),
        ({"pool": {"id": "p"}, "job": {"id": "j", "constraints": {"maxWallClockTime": "15m"}}}, False),
        ({"pool": {"id": "p"}, "job": {"id": "j", "dependsOn": {}}}, False),
        ({"pool": {"id": "p"}, "job": {"id": "j", "maxParallelTasks": 0}}, False),
        ({"pool": {"id": "p"}, "job": {"id": "j", "maxParallelTasks": -1}}, True),
    ],
)
def test_the_schema_judges_as_the_reader_does(data: dict[str, Any], is_right: bool) -> None:
    assert jsonschema.Draft202012Validator(jobschema.json_schema()).is_valid(data) is is_right
    if is_right:
        jobfile.parse(data)
    else:
        with pytest.raises(jobfile.JobFileError):
            jobfile.parse(data)
