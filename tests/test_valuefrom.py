"""Secrets of a job file: given in it, or taken from the environment or a file, and never told in a mistake."""

import json
from pathlib import Path

import jsonschema
import pytest

from jobledger import EnvironmentSetting, jobfile
from jobledger.core.limits import ENVIRONMENT_VALUE_BYTES_MAX

VALUE = "correct-horse-battery-staple"


def job_file(*settings, where="task"):
    """A job file with settings at one of the places where they may stand."""
    data = {
        "pool": {"id": "p", "startTask": {"commandLine": "start"}},
        "job": {
            "id": "j",
            "jobPreparationTask": {"commandLine": "prepare"},
            "jobReleaseTask": {"commandLine": "release"},
            "jobFinalizerTask": {"commandLine": "finish"},
        },
        "tasks": [{"id": "t", "commandLine": "work"}],
    }
    at = {
        "task": data["tasks"][0],
        "start": data["pool"]["startTask"],
        "preparation": data["job"]["jobPreparationTask"],
        "release": data["job"]["jobReleaseTask"],
        "finalizer": data["job"]["jobFinalizerTask"],
    }
    if where == "common":
        data["job"]["commonEnvironmentSettings"] = list(settings)
    else:
        at[where]["environmentSettings"] = list(settings)
    return data


def settings_of(found, where):
    match where:
        case "task":
            return found.tasks[0].environment_settings
        case "start":
            return found.pool.start_task.environment_settings
        case "preparation":
            return found.job.job_preparation_task.environment_settings
        case "release":
            return found.job.job_release_task.environment_settings
        case "finalizer":
            return found.job.job_finalizer_task.environment_settings
        case _:
            return found.job.common_environment_settings


def mistakes_in(data, base=None):
    with pytest.raises(jobfile.JobFileError) as refused:
        jobfile.parse(data, base=base)
    assert VALUE not in str(refused.value)
    return [str(mistake) for mistake in refused.value.mistakes]


@pytest.fixture
def valid():
    validator = jsonschema.Draft202012Validator(jobfile.json_schema())
    return lambda data: validator.is_valid(data)


@pytest.mark.parametrize("where", ["task", "start", "preparation", "release", "finalizer", "common"])
def test_a_secret_may_stand_wherever_settings_do(tmp_path, monkeypatch, valid, where):
    monkeypatch.setenv("MY_TOKEN", VALUE)
    (tmp_path / "token").write_text("from a file\n")
    data = job_file(
        {"name": "PLAIN", "value": "x"},
        {"name": "GIVEN", "value": VALUE, "secret": True},
        {"name": "TOKEN", "valueFrom": {"environment": "MY_TOKEN"}},
        {"name": "FILE", "secret": True, "valueFrom": {"file": "token"}},
        where=where,
    )
    assert valid(data)
    before = json.dumps(data)
    assert settings_of(jobfile.parse(data, base=tmp_path), where) == (
        EnvironmentSetting(name="PLAIN", value="x"),
        EnvironmentSetting(name="GIVEN", value=VALUE, secret=True),
        EnvironmentSetting(name="TOKEN", value=VALUE, secret=True),
        EnvironmentSetting(name="FILE", value="from a file", secret=True),
    )
    assert json.dumps(data) == before  # what the caller has is left as it is


def test_files_are_found_from_the_job_files_folder_on(tmp_path, monkeypatch):
    below = tmp_path / "below"
    below.mkdir()
    (below / "token").write_text(VALUE)
    (below / "job.json").write_text(json.dumps(job_file({"name": "A", "valueFrom": {"file": "token"}})))
    (below / "tasks.json").write_text(json.dumps(job_file({"name": "A", "valueFrom": {"file": str(below / "token")}})["tasks"]))
    monkeypatch.chdir(tmp_path)
    found = jobfile.load(Path("below/job.json"))
    assert found.tasks[0].environment_settings[0].value == VALUE
    again = jobfile.parse_tasks(found.job, jobfile.read("below/tasks.json"), base=jobfile.folder_of("below/tasks.json"))
    assert again == found.tasks
    assert jobfile.folder_of("-") == Path()


@pytest.mark.parametrize(
    ("raw", "value"), [(b"", ""), (b"\n", ""), (b"a\n", "a"), (b"a\r\n", "a"), (b"a\n\n", "a\n"), (b" a\r", " a\r"), ("\u00fc".encode(), "\u00fc")]
)
def test_one_end_of_line_at_the_end_of_a_file_does_not_count(tmp_path, raw, value):
    (tmp_path / "token").write_bytes(raw)
    found = jobfile.parse(job_file({"name": "A", "valueFrom": {"file": "token"}}), base=tmp_path)
    assert found.tasks[0].environment_settings[0].value == value


@pytest.mark.parametrize(
    ("setting", "mistake"),
    [
        ({"valueFrom": {"environment": "NONE_SUCH"}}, "valueFrom.environment: there is no environment variable 'NONE_SUCH' here"),
        ({"valueFrom": {"file": "none"}}, "valueFrom.file: {folder}/none cannot be read: No such file or directory"),
        ({"valueFrom": {"file": "."}}, "valueFrom.file: {folder} cannot be read: Is a directory"),
        ({"valueFrom": {"file": "a\0b"}}, "valueFrom.file: {folder}/a\0b cannot be read: embedded null byte"),
        ({"valueFrom": {"file": "binary"}}, "valueFrom.file: {folder}/binary is not UTF-8 text"),
        ({"valueFrom": {"file": "long"}}, "valueFrom.file: {folder}/long is longer than the 131072 bytes of an environment variable"),
        ({"valueFrom": {"file": "nul"}}, "value: holds a NUL character"),
        ({"valueFrom": {"environment": "BYTES"}}, "valueFrom.environment: the environment variable 'BYTES' is not UTF-8 text"),
        ({"valueFrom": {"environment": 5}}, "valueFrom.environment: must be text, not the number 5: put it in quotes, as '001' and not as 001"),
        ({"valueFrom": {}}, "valueFrom: must be a mapping with either environment or file"),
        ({"valueFrom": {"environment": "SET", "file": "token"}}, "valueFrom: must be a mapping with either environment or file"),
        ({"valueFrom": VALUE}, "valueFrom: must be a mapping with either environment or file"),
        ({"valueFrom": [VALUE]}, "valueFrom: must be a mapping with either environment or file"),
        ({"valueFrom": {"environmnt": "SET"}}, "valueFrom.environmnt: is not known here: did you mean 'environment'?"),
        ({"value": VALUE, "valueFrom": {"environment": "SET"}}, "valueFrom: and 'value' exclude each other: give one of them"),
        (
            {"secret": False, "valueFrom": {"environment": "SET"}},
            "secret: must be true or absent beside 'valueFrom': a value from elsewhere is always secret",
        ),
        ({"valuefrom": {"environment": "SET"}}, "valuefrom: is not known here: did you mean 'valueFrom'?"),
    ],
)
def test_what_is_wrong_with_a_value_from_elsewhere_is_named(tmp_path, monkeypatch, valid, setting, mistake):
    monkeypatch.setenv("SET", VALUE)
    monkeypatch.setenv("BYTES", b"\xff".decode(errors="surrogateescape"))
    for name, raw in {"token": VALUE.encode(), "binary": b"\xff", "long": b"x" * (ENVIRONMENT_VALUE_BYTES_MAX + 1), "nul": b"a\0b"}.items():
        (tmp_path / name).write_bytes(raw)
    data = job_file({"name": "A", **setting})
    assert mistakes_in(data, tmp_path) == ["tasks[0].environmentSettings[0]." + mistake.format(folder=tmp_path)]
    source = setting.get("valueFrom")
    is_of_form = isinstance(source, dict) and len(source) == 1 and isinstance(source.get("file", source.get("environment")), str)
    assert valid(data) == (is_of_form and setting.keys() == {"valueFrom"})


def test_all_that_is_wrong_is_named_at_once(tmp_path):
    data = job_file({"name": "A", "valueFrom": {"file": "none"}}, {"name": "B", "valueFrom": {"environment": "NONE_SUCH"}}, {"nam": "C"})
    data["job"]["priority"] = 5000
    assert [mistake.split(": ")[0] for mistake in mistakes_in(data, tmp_path)] == [
        "tasks[0].environmentSettings[0].valueFrom.file",
        "tasks[0].environmentSettings[1].valueFrom.environment",
        "tasks[0].environmentSettings[2].name",
        "tasks[0].environmentSettings[2].nam",
        "job.priority",
    ]


def test_data_from_somebody_else_cannot_read_our_environment_and_files(tmp_path, monkeypatch):
    monkeypatch.setenv("SET", VALUE)
    (tmp_path / "token").write_text(VALUE)
    for source, key in (({"environment": "SET"}, "environment"), ({"file": str(tmp_path / "token")}, "file")):
        (mistake,) = mistakes_in(job_file({"name": "A", "valueFrom": source}))
        assert mistake.startswith(f"tasks[0].environmentSettings[0].valueFrom.{key}: is not read here")


@pytest.mark.parametrize("value", [12345, True, 1.5, {"a": VALUE}, [VALUE]])
def test_a_mistake_in_a_value_does_not_tell_the_value(value):
    (mistake,) = mistakes_in(job_file({"name": "A", "value": value, "secret": True}))
    assert mistake.startswith("tasks[0].environmentSettings[0].value: must be text, not a ")
    assert "12345" not in mistake
    assert mistakes_in(job_file(f"TOKEN={VALUE}")) == ["tasks[0].environmentSettings[0]: must be a mapping with name, not a text"]
