"""A secret with real processes and the real command: the program sees it, and no byte of it is anywhere else."""

import json
import os
import signal
import stat
from contextlib import closing, suppress
from pathlib import Path

import pytest

from jobledger import SqliteStore
from jobledger.core import events as e

VALUE = "correct-horse-battery-staple"
OF_THE_NODE = "of-the-start-task-7392"
PRINTS = "/bin/sh -c 'printf %s \"$TOKEN\"'"
LEDGER = Path(".jobledger/ledger.db")
SECRETS = Path(".jobledger/ledger.db.secrets")


@pytest.fixture
def command(invoke):
    """Runs a command; what it printed is remembered, to be searched."""
    printed = []

    def call(*words, status=0):
        done = invoke(*words)
        printed.append(done.output)
        assert done.exit_code == status, (words, done.output)
        return done

    call.printed = printed
    return call


@pytest.fixture
def engine(start, until):
    """Starts an engine in a process of its own; what it printed is in the file `engine.log`."""
    started = []

    def call(umask=-1):
        with Path("engine.log").open("ab") as log:
            started.append(start("engine", stdout=log, stderr=log, umask=umask))
        until(lambda: LEDGER.exists() and len(recorded(e.EngineStarted)) == len(started), "the engine")
        return started[-1]

    yield call
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)


def recorded(kind):
    with closing(SqliteStore.open(LEDGER, read_only=True)) as store:
        return [one.event for one in store.read() if isinstance(one.event, kind)]


def setting(name, value):
    return {"name": name, "value": value, "secret": True}


def write_job(name="job.json", *, job=None, tasks=None, pool=None, value=VALUE):
    data = {
        "pool": {"id": "p", "nodes": 2, "startTask": {"commandLine": PRINTS, "environmentSettings": [setting("TOKEN", OF_THE_NODE)]}, **(pool or {})},
        "job": {
            "id": "j",
            "commonEnvironmentSettings": [setting("TOKEN", value)],
            "jobPreparationTask": {"commandLine": PRINTS},
            "jobReleaseTask": {"commandLine": PRINTS},
            "jobFinalizerTask": {"commandLine": PRINTS},
            **(job or {}),
        },
        "tasks": tasks or [{"id": "t1", "commandLine": PRINTS}, {"id": "t2", "commandLine": PRINTS}],
    }
    Path(name).write_text(json.dumps(data))
    return name


def outputs():
    """What the programs wrote, by task."""
    return {path.parent.name: path.read_text() for path in Path(".jobledger/nodes").rglob("stdout.txt")}


def leaks(*values, but=("job.json",)):
    """Files with a value in them, other than those that are to have it."""
    paths = [Path(folder) / name for folder, _, names in os.walk(".") for name in names]  # which bears folders that are being removed
    return [path for path in paths if path.name not in {"stdout.txt", *but} and any(value in read(path) for value in values)]


def read(path):
    """What is in a file, byte for character; nothing where it has just been removed, or is a socket."""
    if path.is_socket():
        return ""
    try:
        return path.read_bytes().decode("latin-1")
    except FileNotFoundError:
        return ""


def test_the_program_sees_it_and_nothing_else_has_it(command, engine, until):
    engine()
    write_job()
    wrong = [
        {"id": "none", "commandLine": "/no/such/program"},
        {"id": "text", "commandLine": "/etc/passwd"},
        {"id": "fails", "commandLine": "/bin/sh -c 'exit 3'"},
    ]
    write_job("wrong.json", job={"id": "k"}, tasks=wrong)
    command("submit", "job.json")
    command("submit", "wrong.json", "--json")
    command("submit", write_job("other.json", value="another-4711"), status=3)
    Path("more.json").write_text(json.dumps([{"id": "t3", "commandLine": PRINTS, "environmentSettings": [setting("TOKEN", "own-4711")]}]))
    command("add-tasks", "j", "more.json")
    until(lambda: len(recorded(e.TaskCompleted)) == 6)
    assert leaks(VALUE, OF_THE_NODE, "own-4711", but=["job.json", "wrong.json", "other.json", "more.json", SECRETS.name]) == []
    assert VALUE.encode() in SECRETS.read_bytes()
    show(command)
    command("terminate", "j")
    command("terminate", "k")
    until(lambda: len(recorded(e.JobCompleted)) == 2)
    show(command)

    printed = "".join(command.printed)
    for value in (VALUE, OF_THE_NODE, "another-4711", "own-4711"):
        assert value not in printed
    assert "job.commonEnvironmentSettings[0].value: (secret) -> (another secret)" in printed
    assert '"value": "hmac-sha256:' in printed
    assert outputs() == {
        **dict.fromkeys(("t1", "t2", "jobpreparation", "jobrelease", "jobfinalizer"), VALUE),
        **dict.fromkeys(("none", "text", "fails"), ""),
        "t3": "own-4711",
        "startup": OF_THE_NODE,
    }
    files = ["job.json", "wrong.json", "other.json", "more.json"]
    until(lambda: leaks(VALUE, "own-4711", "another-4711", but=files) == [])  # forgotten as the last job ends, after its end is recorded
    assert leaks(OF_THE_NODE, but=files) == [SECRETS]
    command("pools", "delete", "p")
    until(lambda: leaks(OF_THE_NODE, but=files) == [])


def show(command):
    """Everything that shows what the ledger has."""
    for words in (
        ("status",),
        ("status", "j"),
        ("status", "j", "--json"),
        ("status", "k", "--json"),
        ("events",),
        ("events", "--json"),
        ("explain", "j"),
        ("explain", "k", "none"),
        ("explain", "j", "--json"),
        ("tasks", "j"),
        ("tasks", "k", "--json"),
        ("pools", "--json"),
        ("nodes", "--json"),
    ):
        command(*words)


def test_a_killed_engine_and_the_next_one_give_programs_the_same_secret(command, engine, until):
    first = engine()
    waits = f"/bin/sh -c 'for i in $(seq 1500); do test -e {Path.cwd()}/go && break; sleep 0.02; done; printf %s \"$TOKEN\"'"
    write_job(
        job={"onAllTasksComplete": "terminatejob"},
        pool={"nodes": 1},
        tasks=[{"id": "t1", "commandLine": waits}, {"id": "t2", "commandLine": PRINTS}],
    )
    command("submit", "job.json")
    until(lambda: any(event.task == "t1" for event in recorded(e.ExecutionConfirmed)))
    first.kill()
    first.wait()
    engine()
    Path("go").touch()
    until(lambda: recorded(e.JobCompleted))
    ran = ("t1", "t2", "jobrelease", "jobfinalizer")
    assert {name: outputs()[name] for name in ran} == dict.fromkeys(ran, VALUE)
    assert [event.kind for event in recorded(e.ExecutionRequested)].count("task") == 2
    until(lambda: leaks(VALUE) == [])


def test_a_job_whose_secrets_are_lost_fails_clearly_and_never_runs_with_the_digest(command, engine, until):
    first = engine()
    write_job(pool={"id": "q"}, job={"poolInfo": {"poolId": "p"}, "onAllTasksComplete": "terminatejob"})
    data = json.loads(Path("job.json").read_text())
    pool = {"id": "p", "nodes": 1}
    Path("pool.json").write_text(json.dumps(pool))
    del data["pool"], data["job"]["jobPreparationTask"], data["job"]["jobReleaseTask"], data["job"]["jobFinalizerTask"]
    Path("job.json").write_text(json.dumps(data))
    command("submit", "job.json")
    first.kill()
    first.wait()
    SECRETS.unlink()
    engine()
    command("pools", "create", "pool.json")
    until(lambda: recorded(e.JobCompleted))
    told = command("status", "j").stdout
    assert f"TOKEN is not in {Path.cwd() / SECRETS}: put that file back if it was lost or left behind" in told
    assert "t1" not in outputs()
    assert [event.failure.code for event in recorded(e.TaskCompleted)] == ["CommandLaunchFailed"] * 2
    assert leaks(VALUE) == []


def test_run_takes_a_secret_from_its_environment(command, monkeypatch):
    data = {
        "pool": {"id": "p"},
        "job": {"id": "j", "onAllTasksComplete": "terminatejob"},
        "tasks": [{"id": "t", "commandLine": PRINTS, "environmentSettings": [{"name": "TOKEN", "valueFrom": {"environment": "MY_TOKEN"}}]}],
    }
    Path("job.json").write_text(json.dumps(data))
    refused = command("run", "job.json", status=2).stderr
    assert "tasks[0].environmentSettings[0].valueFrom.environment: there is no environment variable 'MY_TOKEN' here" in refused
    assert not LEDGER.exists()
    monkeypatch.setenv("MY_TOKEN", VALUE)
    command("run", "job.json")
    command("run", "job.json", "--json")  # the same again: reported, not refused
    assert outputs() == {"t": VALUE}
    assert leaks(VALUE) == []
    assert VALUE not in "".join(command.printed)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_all_that_an_engine_makes_is_private_to_its_owner(command, engine, until, umask):
    engine(umask)
    command("submit", write_job(job={"onAllTasksComplete": "terminatejob"}))
    until(lambda: recorded(e.JobCompleted))
    modes = modes_below(".jobledger")
    of_ours = {path: mode for path, mode in modes.items() if "wd" not in path.parts}  # what lies in a task's own folder is the task's
    assert {path for path, mode in of_ours.items() if stat.S_ISDIR(mode) and stat.S_IMODE(mode) != 0o700} == set()
    names = {path.name for path in of_ours}
    assert names >= {".jobledger", "ledger.db", "ledger.db-wal", "ledger.db-shm", SECRETS.name, "nodes", "p", "p-1", "shared", "j", "job-1", "t1"}
    beside = [mode for path, mode in of_ours.items() if path.parent == LEDGER.parent and stat.S_ISREG(mode)]
    assert set(map(stat.S_IMODE, beside)) == {0o600}


def modes_below(folder):
    """The mode of a folder and of all in it; what goes away meanwhile (a journal) is left out."""
    found = {}
    for parent, folders, files in os.walk(folder):
        for path in (Path(parent), *(Path(parent) / name for name in (*folders, *files))):
            with suppress(FileNotFoundError):
                found[path] = path.lstat().st_mode
    return found
