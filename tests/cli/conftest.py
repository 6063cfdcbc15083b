"""What tests of the command line share: the real command in a folder of its own, in a process or in this one."""

import json
import os
import subprocess
import sysconfig
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobledger.cli import main

COMMAND = str(Path(sysconfig.get_path("scripts")) / "jobledger")
BOUND_S = 30.0


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working folder: the ledger and the nodes lie below it by default."""
    for name in ("JOBLEDGER_LEDGER", "JOBLEDGER_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def invoke(folder):
    """Runs a command line in this process: quick, and enough where no signal and no terminal is involved."""

    def call(*words, text=None):
        return CliRunner().invoke(main, [str(word) for word in words], input=text, catch_exceptions=False)

    return call


@pytest.fixture
def start(folder):
    """Starts the real command; what still runs at the test's end is killed."""
    started = []

    def call(*words, **more):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, "text": True, **more}
        process = subprocess.Popen([COMMAND, *map(str, words)], **options)
        started.append(process)
        return process

    yield call
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def write(folder):
    """Writes a job file and gives its name: `tasks` are command lines, `prep` and `release` too."""

    def call(*tasks, name="job.json", prep=None, release=None, pool=None, job=None):
        job_file = {
            "pool": {"id": "p", "nodes": 1, **(pool or {})},
            "job": {"id": "j", "onAllTasksComplete": "terminatejob", **(job or {})},
            "tasks": [{"id": f"t{number}", "commandLine": line} for number, line in enumerate(tasks, 1)],
        }
        if prep is not None:
            job_file["job"]["jobPreparationTask"] = {"commandLine": prep}
        if release is not None:
            job_file["job"]["jobReleaseTask"] = {"commandLine": release}
        (folder / name).write_text(json.dumps(job_file))
        return name

    return call


@pytest.fixture
def until():
    """Waits until a condition holds, and fails where it does not in a bounded time."""

    def wait(condition, what="the condition"):
        deadline = time.monotonic() + BOUND_S
        while not (found := condition()):
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            time.sleep(0.01)  # what is waited for happens in other processes, which cannot wake us
        return found

    return wait


@pytest.fixture
def lives():
    """Whether a process lives."""

    def call(pid):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    return call
