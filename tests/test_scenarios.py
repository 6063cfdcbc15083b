"""The tricky scenarios of Azure Batch's semantics (section 8) that are about job files and queries, and the list of all of them."""

import ast
import re
from pathlib import Path

import pytest
from attrs import evolve

from jobledger import PreparationSpec, RequestRefused, jobfile
from jobledger.core.requests import SubmitJob
from jobledger.testing.scenario import Scenario
from jobledger.views import preparation_and_release_status, refuse_unless_prepared

TESTS = Path(__file__).parent
SCENARIOS = range(1, 58)


def refusal(**job):
    with pytest.raises(jobfile.JobFileError) as refused:
        jobfile.parse({"pool": {"id": "p"}, "job": {"id": "j", **job}, "tasks": [{"id": "t", "commandLine": "true"}]})
    return str(refused.value)


def test_50_51_a_job_manager_is_refused_by_name():
    text = refusal(jobManagerTask={"id": "manager", "commandLine": "true"})
    assert "job.jobManagerTask: " in text
    assert "not supported" in text


def test_53_the_status_of_a_preparation_that_there_is_not_is_refused_by_its_code(shell_job):
    s = Scenario().given(
        SubmitJob(spec=shell_job("plain")), SubmitJob(spec=evolve(shell_job("j"), job_preparation_task=PreparationSpec(command_line="true")))
    )
    with pytest.raises(RequestRefused) as refused:
        refuse_unless_prepared(s.world.jobs["plain"])
    assert refused.value.code == "JobPreparationTaskNotSpecified"
    refuse_unless_prepared(s.world.jobs["j"])
    assert preparation_and_release_status(s.world.jobs["j"]) == []


def test_every_scenario_has_a_test_of_its_number():
    numbers = set()
    for path in TESTS.rglob("test_scenarios*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and (found := re.match(r"test((?:_\d\d)+)_", node.name)):
                numbers |= {int(number) for number in found[1].strip("_").split("_")}
    assert sorted(set(SCENARIOS) - numbers) == []
