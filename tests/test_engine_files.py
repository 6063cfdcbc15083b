"""The engine with real processes and real files: fetched from a real web server, deployed, uploaded, and what happens where that fails."""

import asyncio
import io
import json
import signal
import subprocess
import sysconfig
import time
import zipfile
from pathlib import Path

import pytest

from jobledger import Engine, JobId, jobfile, views
from jobledger.core.explain import explain
from jobledger.core.requests import ReimageNode

BOUND_S = 45.0
JOB = JobId("j")
COMMAND = str(Path(sysconfig.get_path("scripts")) / "jobledger")


@pytest.fixture
def drive(tmp_path):
    """Drives a job file's data to the job's end, doing `act` with the engine meanwhile; what comes back is the world."""

    def call(data, act=None, *, completes=True):
        found = jobfile.parse(data)

        async def scenario():
            async with await Engine.open(tmp_path / "ledger.db", root=tmp_path / "nodes", durability="relaxed") as engine:
                await engine.create_pool(found.pool)
                await engine.submit(found.job, found.tasks)
                if act is not None:
                    await act(engine)
                if completes:
                    await engine.wait(JOB, timeout_s=BOUND_S)
                return engine.world

        return asyncio.run(scenario())

    return call


def described(*tasks, pool=None, **job):
    """A job file's data; tasks are command lines or mappings, and have the ids t1, t2 and so on."""
    listed = [{"commandLine": task} if isinstance(task, str) else task for task in tasks]
    return {
        "pool": {"id": "p", "nodes": 1, **(pool or {})},
        "job": {"id": JOB, "onAllTasksComplete": "terminatejob", **job},
        "tasks": [{"id": f"t{number}", **task} for number, task in enumerate(listed, 1)],
    }


def shell(text):
    return f"/bin/sh -c '{text}'"


def output(pattern, url, path=None, condition="taskcompletion"):
    container = {"containerUrl": str(url)} | ({"path": path} if path else {})
    return {"filePattern": pattern, "destination": {"container": container}, "uploadOptions": {"uploadCondition": condition}}


def zipped(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def names_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def staged(tmp_path):
    return list((tmp_path / "nodes").glob("*/*/volatile/.stage.*"))


async def eventually(condition, what):
    """Wait for something outside that nothing announces."""
    try:
        async with asyncio.timeout(BOUND_S):
            while not condition():  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"waited in vain: {what}")


# --- finalizers -----------------------------------------------------------------------------------------------


def test_a_finalizer_gathers_what_releases_brought_out_of_their_nodes(drive, tmp_path):
    """On the engine's host: it fetches what the releases uploaded, and uploads a summary."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "done").mkdir()
    release = {"commandLine": shell("echo $AZ_BATCH_NODE_ID > log-$AZ_BATCH_NODE_ID"), "outputFiles": [output("log-*", tmp_path / "logs")]}
    finish = {
        "commandLine": shell("sort in/log-* > summary"),
        "resourceFiles": [{"storageContainerUrl": str(tmp_path / "logs"), "filePath": "in"}],
        "outputFiles": [output("summary", tmp_path / "done")],
    }
    prepare = {"commandLine": "true"}
    data = described(*["sleep 0.2"] * 4, pool={"nodes": 2}, jobPreparationTask=prepare, jobReleaseTask=release, jobFinalizerTask=finish)
    job = drive(data).jobs[JOB]
    assert (job.finalizer.result, job.finalizer.failure) == ("success", None)
    assert (tmp_path / "done" / "summary").read_text() == "p-1\np-2\n"
    assert staged(tmp_path) == []


def test_a_finalizer_whose_files_are_not_there_never_runs_and_has_failed(drive, tmp_path):
    finish = {"commandLine": f"touch {tmp_path}/ran", "resourceFiles": [{"storageContainerUrl": str(tmp_path / "nowhere"), "filePath": "in"}]}
    job = drive(described("true", jobFinalizerTask=finish)).jobs[JOB]
    assert (job.state, job.finalizer.state, job.finalizer.result, job.finalizer.exit_code) == ("completed", "completed", "failure", None)
    assert job.finalizer.failure is not None
    assert not (tmp_path / "ran").exists()


# --- fetching -------------------------------------------------------------------------------------------------


def test_common_data_is_fetched_once_per_node_by_preparation(drive, file_server):
    file_server.files["/data"] = b"common\n"
    reads = shell("grep common $AZ_BATCH_JOB_PREP_WORKING_DIR/in/data")
    prepare = {"commandLine": "test -s in/data", "resourceFiles": [{"httpUrl": f"{file_server.url}/data", "filePath": "in/data"}]}
    world = drive(described(*[reads] * 8, pool={"nodes": 2, "taskSlotsPerNode": 4}, jobPreparationTask=prepare))
    assert world.jobs[JOB].succeeded == 8
    assert len(world.jobs[JOB].preparations) == 2
    assert file_server.asked == {"/data": 2}


def test_an_input_has_its_mode_and_a_folder_its_files(drive, file_server, tmp_path):
    file_server.files["/tool"] = b"#!/bin/sh\ncat data/a.txt data/sub/b.txt\n"
    (tmp_path / "container" / "set" / "sub").mkdir(parents=True)
    for name in ("set/a.txt", "set/sub/b.txt", "other.txt"):
        (tmp_path / "container" / name).write_text(f"{name}\n")
    files = [
        {"httpUrl": f"{file_server.url}/tool", "filePath": "bin/tool", "fileMode": "0755"},
        {"storageContainerUrl": f"{tmp_path}/container/set", "filePath": "data", "fileMode": "0600"},
    ]
    world = drive(described({"commandLine": "./bin/tool", "resourceFiles": files}))
    assert world.jobs[JOB].succeeded == 1
    folder = tmp_path / "nodes/p/p-1/workitems/j/job-1/t1"
    assert (folder / "stdout.txt").read_text() == "set/a.txt\nset/sub/b.txt\n"
    assert names_below(folder / "wd") == ["bin/tool", "data/a.txt", "data/sub/b.txt"]
    assert [(folder / "wd" / name).stat().st_mode & 0o7777 for name in ("bin/tool", "data/a.txt")] == [0o755, 0o600]
    assert not staged(tmp_path)


def test_08_45_a_file_that_is_not_there_is_a_failure_that_no_retry_follows(drive, file_server, tmp_path):
    missing = {"resourceFiles": [{"httpUrl": f"{file_server.url}/none", "filePath": "x"}], "constraints": {"maxTaskRetryCount": 3}}
    world = drive(described({"commandLine": shell("echo ran >> ../ran"), **missing}))
    task = world.task(JOB, "t1")
    assert (task.result, task.retries, task.launches, task.exit_code) == ("failure", 0, 1, None)
    info = views.task_view(world.jobs[JOB], task)["executionInfo"]["failureInfo"]
    assert (info["category"], info["code"]) == ("usererror", "BlobNotFound")
    assert "/none" in str(info["details"])
    assert [reason.code for reason in explain(world, JOB, "t1")] == ["BlobNotFound", "FilesKept"]
    assert not list(tmp_path.rglob("ran"))
    assert not staged(tmp_path)


def test_08_preparation_whose_file_is_not_there_has_failed(drive, file_server):
    prepare = {"commandLine": "true", "resourceFiles": [{"httpUrl": f"{file_server.url}/none", "filePath": "x"}]}

    async def act(engine):
        await engine.until(lambda world: world.jobs[JOB].blocked, timeout_s=BOUND_S)

    world = drive(described("true", jobPreparationTask=prepare), act, completes=False)
    (entry,) = views.preparation_and_release_status(world.jobs[JOB])
    info = entry["jobPreparationTaskExecutionInfo"]
    assert (info["state"], info["result"], info["failureInfo"]["code"], info["retryCount"]) == ("completed", "failure", "BlobNotFound", 0)
    assert "exitCode" not in info
    assert "BlobNotFound" in str(explain(world, JOB))


def test_a_task_that_is_ended_while_its_files_are_fetched_never_runs(drive, file_server, tmp_path):
    file_server.hold("/slow")

    async def act(engine):
        await eventually(lambda: file_server.asked["/slow"], "the file is asked for")
        began = time.monotonic()
        await engine.terminate_task(JOB, "t1")
        await engine.until(lambda world: world.task(JOB, "t1").state == "completed", timeout_s=BOUND_S)
        assert time.monotonic() - began < 20
        await eventually(lambda: not staged(tmp_path), "what was staged is removed")

    task = {"commandLine": f"touch {tmp_path}/ran", "resourceFiles": [{"httpUrl": f"{file_server.url}/slow", "filePath": "x"}]}
    world = drive(described(task), act)
    assert world.task(JOB, "t1").failure.code == "TaskEnded"
    assert not (tmp_path / "ran").exists()


# --- packages -------------------------------------------------------------------------------------------------


def test_a_package_is_deployed_once_for_eight_tasks_and_again_after_a_reimage(drive, file_server, tmp_path):
    file_server.files["/app.zip"] = zipped(**{"bin/data": "packed\n"})
    package = {"applicationId": "Data-Set", "version": "1.0", "url": f"{file_server.url}/app.zip"}
    task = {"commandLine": shell("cat $AZ_BATCH_APP_PACKAGE_data_set_1_0/bin/data"), "applicationPackageReferences": [package]}

    async def act(engine):
        await engine.until(lambda world: world.jobs[JOB].counts["completed"] == 8, timeout_s=BOUND_S)
        assert file_server.asked == {"/app.zip": 1}
        await engine.request(ReimageNode(node="p-1"))
        later = jobfile.parse_tasks(engine.world.jobs[JOB].spec, [{"id": "later", **task}])
        await engine.add_tasks(JOB, later)
        await engine.until(lambda world: world.jobs[JOB].counts["completed"] == 9, timeout_s=BOUND_S)
        await engine.terminate(JOB)

    world = drive(described(*[task] * 8, pool={"taskSlotsPerNode": 8}, onAllTasksComplete="noaction"), act)
    assert world.jobs[JOB].succeeded == 9
    assert file_server.asked == {"/app.zip": 2}
    assert (tmp_path / "nodes/p/p-1/workitems/j/job-1/later/stdout.txt").read_text() == "packed\n"


def test_a_pools_package_is_there_for_every_command_line(drive, file_server, tmp_path):
    file_server.files["/app.zip"] = zipped(data="packed\n")
    uses = shell("cp $AZ_BATCH_APP_PACKAGE_tool/data $AZ_BATCH_NODE_SHARED_DIR/$0")
    pool = {
        "applicationPackageReferences": [{"applicationId": "tool", "url": f"{file_server.url}/app.zip"}],
        "startTask": {"commandLine": f"{uses} start"},
    }
    drive(described(f"{uses} task", pool=pool, jobPreparationTask={"commandLine": f"{uses} prep"}, jobReleaseTask={"commandLine": f"{uses} release"}))
    assert names_below(tmp_path / "nodes/p/p-1/shared") == ["prep", "release", "start", "task"]
    assert file_server.asked == {"/app.zip": 1}


@pytest.mark.parametrize(
    ("content", "sha256"),
    [(b"no zip at all", None), (zipped(**{"../../escaped": "x"}), None), (zipped(data="x"), "0" * 64)],
    ids=["no zip", "a zip that leads out", "another digest"],
)
def test_a_package_that_cannot_be_deployed_fails_the_task(drive, file_server, tmp_path, content, sha256):
    file_server.files["/app.zip"] = content
    package = {"applicationId": "tool", "url": f"{file_server.url}/app.zip", "sha256": sha256}
    world = drive(described({"commandLine": "true", "applicationPackageReferences": [package]}))
    assert (world.task(JOB, "t1").failure.code, world.task(JOB, "t1").exit_code) == ("ApplicationPackageError", None)
    assert not list(tmp_path.rglob("escaped"))


# --- uploading ------------------------------------------------------------------------------------------------


def test_outputs_are_uploaded_by_pattern_and_condition(drive, tmp_path):
    (tmp_path / "out").mkdir()
    outputs = [
        output("*.csv", tmp_path / "out", "$AZ_BATCH_TASK_ID/csv"),
        output("../std*.txt", f"file://{tmp_path}/out", "$AZ_BATCH_TASK_ID", "taskfailure"),
        output("one.csv", tmp_path / "out", "$AZ_BATCH_TASK_ID/good", "tasksuccess"),
    ]
    writes = "echo 1 > one.csv; echo 2 > two.csv; echo 3 > other; echo out"
    tasks = [{"commandLine": shell(f"{writes}; exit {code}"), "outputFiles": outputs} for code in (0, 3)]
    world = drive(described(*tasks))
    assert [(task.result, task.exit_code, task.failure and task.failure.code) for task in world.jobs[JOB].tasks.values()] == [
        ("success", 0, None),
        ("failure", 3, "FailureExitCode"),
    ]
    assert names_below(tmp_path / "out") == [
        "t1/csv/one.csv",
        "t1/csv/two.csv",
        "t1/good",
        "t2/csv/one.csv",
        "t2/csv/two.csv",
        "t2/stderr.txt",
        "t2/stdout.txt",
    ]
    assert (tmp_path / "out/t2/stdout.txt").read_text() == "out\n"
    assert "one.csv" in (tmp_path / "nodes/p/p-1/workitems/j/job-1/t1/fileuploadout.txt").read_text()


def test_outputs_are_uploaded_through_fsspec(drive, tmp_path):
    pytest.importorskip("fsspec")
    (tmp_path / "out").mkdir()
    world = drive(described({"commandLine": shell("mkdir deep; echo 1 > deep/x"), "outputFiles": [output("**/*", f"local://{tmp_path}/out", "all")]}))
    assert world.jobs[JOB].succeeded == 1
    assert names_below(tmp_path / "out") == ["all/deep/x"]


def test_logs_are_copied_out_by_release(drive, tmp_path):
    (tmp_path / "logs").mkdir()
    keep = shell("cd ../..; tar -cf jobrelease/wd/logs.tar t?/stdout.txt")
    release = {"commandLine": keep, "outputFiles": [output("logs.tar", tmp_path / "logs", "$AZ_BATCH_NODE_ID/logs.tar")]}
    world = drive(described("echo one", "echo two", jobPreparationTask={"commandLine": "true"}, jobReleaseTask=release))
    assert [release.result for release in world.jobs[JOB].releases.values()] == ["success"]
    assert names_below(tmp_path / "logs") == ["p-1/logs.tar"]


def test_56_outputs_that_cannot_be_uploaded_are_a_failure_of_a_good_end(drive, tmp_path):
    asked = {"exitConditions": {"fileUploadError": {"jobAction": "terminate"}}, "constraints": {"maxTaskRetryCount": 2}}
    task = {"commandLine": shell("echo x > x; echo ran >> ../../ran"), "outputFiles": [output("x", tmp_path / "none" / "at" / "all")], **asked}
    world = drive(described(task, "sleep 60", onTaskFailure="performexitoptionsjobaction"))
    found = world.task(JOB, "t1")
    assert (found.result, found.exit_code, found.retries, found.launches) == ("failure", 0, 0, 1)
    info = views.task_view(world.jobs[JOB], found)["executionInfo"]
    assert (info["result"], info["exitCode"], info["failureInfo"]["code"]) == ("failure", 0, "FileUploadContainerNotFound")
    assert world.jobs[JOB].terminate_reason == "TaskFailed"
    assert explain(world, JOB, "t1")[0].code == "FileUploadContainerNotFound"


def test_a_release_whose_outputs_cannot_be_uploaded_has_failed_and_the_job_completes(drive, tmp_path):
    release = {"commandLine": "touch x", "outputFiles": [output("x", tmp_path / "none" / "at" / "all")]}
    world = drive(described("true", jobPreparationTask={"commandLine": "true"}, jobReleaseTask=release))
    (found,) = world.jobs[JOB].releases.values()
    assert (found.result, found.exit_code, found.failure.code) == ("failure", 0, "FileUploadContainerNotFound")
    assert "FileUploadContainerNotFound" in str(explain(world, JOB))


def test_outputs_of_a_task_that_was_ended_are_uploaded_and_of_one_that_was_requeued_are_not(drive, tmp_path):
    (tmp_path / "out").mkdir()
    outputs = [output("x", tmp_path / "out", "$AZ_BATCH_TASK_ID/x"), output("x", tmp_path / "out", "$AZ_BATCH_TASK_ID/good", "tasksuccess")]
    runs = {"commandLine": shell("echo 1 > x; touch ../../$AZ_BATCH_TASK_ID.runs; exec sleep 60"), "outputFiles": outputs}

    async def act(engine):
        await eventually(lambda: len(list(tmp_path.rglob("t?.runs"))) == 2, "both run")
        await engine.terminate_task(JOB, "t1")
        await engine.until(lambda world: world.task(JOB, "t1").state == "completed", timeout_s=BOUND_S)
        await engine.disable(JOB, "requeue")
        await engine.until(lambda world: world.jobs[JOB].state == "disabled", timeout_s=BOUND_S)
        assert names_below(tmp_path / "out") == ["t1/x"]
        await engine.terminate(JOB)

    world = drive(described(runs, runs, pool={"taskSlotsPerNode": 2}), act)
    assert world.task(JOB, "t2").requeues == 1


def test_a_pattern_whose_variables_lead_out_is_refused_when_it_is_used(drive, tmp_path):
    (tmp_path / "out").mkdir()
    task = {
        "commandLine": "true",
        "environmentSettings": [{"name": "WAY", "value": "../../.."}],
        "outputFiles": [output("$WAY/*", tmp_path / "out")],
    }
    world = drive(described(task))
    assert (world.task(JOB, "t1").result, world.task(JOB, "t1").failure.code) == ("failure", "FileUploadMiscError")
    assert names_below(tmp_path / "out") == []


def test_a_secret_is_no_part_of_a_pattern(drive, tmp_path):
    (tmp_path / "out").mkdir()
    task = {
        "commandLine": "touch x",
        "environmentSettings": [{"name": "TOKEN", "value": "hush-hush-hush", "secret": True}],
        "outputFiles": [output("x", tmp_path / "out", "$TOKEN/x")],
    }
    world = drive(described(task))
    assert world.task(JOB, "t1").failure.code == "FileUploadMiscError"
    assert "hush" not in str(world.task(JOB, "t1").failure) + "".join(path.read_text() for path in tmp_path.rglob("fileupload*.txt"))
    assert names_below(tmp_path / "out") == []


# --- what is refused at once ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "given", "mistake"),
    [
        ("resourceFiles", {"httpUrl": "http://h/x", "filePath": "../x"}, "resourceFiles[0].filePath: '../x' must not contain '..'"),
        ("resourceFiles", {"httpUrl": "http://h/x", "filePath": "/etc/x"}, "resourceFiles[0].filePath: '/etc/x' must be relative"),
        ("resourceFiles", {"httpUrl": "http://h/x"}, "resourceFiles[0].filePath: is missing: with httpUrl it says where in the working directory the file goes"),
        ("resourceFiles", {"filePath": "x"}, "resourceFiles[0]: must have exactly one of httpUrl (a file) and storageContainerUrl (a folder)"),
        ("resourceFiles", {"httpUrl": "x", "filePath": "x"}, "resourceFiles[0].httpUrl: is neither an address (https://..., file:///..., s3://...) nor an absolute path"),
        ("resourceFiles", {"storageContainerUrl": "https://h/c"}, "resourceFiles[0].storageContainerUrl: http cannot list a folder; use an address that fsspec knows (abfs://..., s3://...), file:///... or a path"),
        ("resourceFiles", {"httpUrl": "http://h/x", "filePath": "x", "fileMode": "4755"}, "resourceFiles[0].fileMode: '4755' must be at most 0777: set-user-id, set-group-id and sticky bits are not allowed"),
        ("resourceFiles", {"httpUrl": "http://h/x", "filePath": "x", "blobPrefix": "y"}, "resourceFiles[0].blobPrefix: belongs to storageContainerUrl"),
        ("resourceFiles", {"autoStorageContainerName": "c", "storageContainerUrl": "/c"}, "resourceFiles[0].autoStorageContainerName: is a property of Azure Batch that is not supported by this version of jobledger"),
        ("outputFiles", output("../../x", "/out"), "outputFiles[0].filePattern: '../../x' must not contain '..' but once, in front: nothing outside the task's folder is read"),
        ("outputFiles", output("x", "out"), "outputFiles[0].destination.container.containerUrl: is neither an address (https://..., file:///..., s3://...) nor an absolute path"),
        ("outputFiles", output("x", "/out", "../y"), "outputFiles[0].destination.container.path: '../y' must not contain '..'"),
        ("outputFiles", {"filePattern": "x", "destination": {}}, "outputFiles[0].destination.container: is missing"),
        ("outputFiles", "x", "outputFiles[0]: must be a mapping with filePattern and destination, not the text 'x'"),
        ("applicationPackageReferences", {"applicationId": "a/b", "url": "/z"}, "applicationPackageReferences[0].applicationId: 'a/b' is not an id: 1 to 64 letters, digits, '-' and '_'"),
        ("applicationPackageReferences", {"applicationId": "a", "version": "..", "url": "/z"}, None),
        ("applicationPackageReferences", {"applicationId": "a", "version": "1/2", "url": "/z"}, "applicationPackageReferences[0].version: '1/2' is not a version: 1 to 64 letters, digits, '.', '-' and '_'"),
        ("applicationPackageReferences", {"applicationId": "a", "url": "/z", "sha256": "12"}, "applicationPackageReferences[0].sha256: is not a SHA-256 digest: 64 hexadecimal digits"),
        ("applicationPackageReferences", {"applicationId": "a"}, "applicationPackageReferences[0].url: is missing"),
    ],
)  # fmt: skip
def test_what_leads_out_or_makes_no_sense_is_refused_with_its_path(place, given, mistake):
    data = described({"commandLine": "true", place: [given]})
    if mistake is None:
        jobfile.parse(data)
    else:
        with pytest.raises(jobfile.JobFileError) as refused:
            jobfile.parse(data)
        assert [str(one) for one in refused.value.mistakes] == [f"tasks[0].{mistake}"]


# --- engines that are killed ----------------------------------------------------------------------------------


@pytest.fixture
def killed_while(tmp_path):
    """Kills the real command as soon as `reached` holds, and then runs it to its end."""

    def call(data, reached):
        (tmp_path / "job.json").write_text(json.dumps(data))
        words = [COMMAND, "run", "job.json", "--ledger", "ledger.db", "--root", "nodes"]
        with (tmp_path / "log").open("wb") as log, subprocess.Popen(words, cwd=tmp_path, stdout=log, stderr=log) as engine:
            try:
                asyncio.run(eventually(lambda: reached() or engine.poll() is not None, "the fault"))
            finally:
                engine.kill()
        assert engine.returncode == -signal.SIGKILL, (tmp_path / "log").read_text()
        return words

    return call


def test_an_engine_killed_while_it_fetches_costs_only_another_fetch(tmp_path, file_server, killed_while):
    file_server.files["/slow"] = b"all of it\n"
    file_server.hold("/slow")
    task = {"commandLine": shell(f"cat x >> {tmp_path}/ran"), "resourceFiles": [{"httpUrl": f"{file_server.url}/slow", "filePath": "x"}]}
    words = killed_while(described(task), lambda: file_server.asked["/slow"])
    assert len(staged(tmp_path)) == 1
    file_server.go.set()
    again = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=BOUND_S, check=False)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "ran").read_text() == "all of it\n"
    assert not staged(tmp_path)


def test_an_engine_killed_while_it_uploads_costs_only_another_upload(tmp_path, file_server, killed_while):
    file_server.hold("/c/b")
    task = {
        "commandLine": shell(f"echo 1 > a; echo 2 > b; echo ran >> {tmp_path}/ran"),
        "outputFiles": [output("*", f"{file_server.url}/c")],
    }
    words = killed_while(described(task), lambda: file_server.asked["/c/b"])
    file_server.go.set()
    again = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=BOUND_S, check=False)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "ran").read_text() == "ran\n"
    assert file_server.files == {"/c/a": b"1\n", "/c/b": b"2\n"}


def test_an_engine_that_is_closed_while_it_uploads_is_not_told_a_success(tmp_path, file_server):
    file_server.hold("/c/x")
    found = jobfile.parse(
        described({"commandLine": shell(f"echo 1 > x; echo ran >> {tmp_path}/ran"), "outputFiles": [output("x", f"{file_server.url}/c")]})
    )

    async def scenario():
        async with await Engine.open(tmp_path / "ledger.db", root=tmp_path / "nodes") as engine:
            await engine.create_pool(found.pool)
            await engine.submit(found.job, found.tasks)
            await eventually(lambda: file_server.asked["/c/x"], "the upload")
            assert engine.world.task(JOB, "t1").state == "running"
        file_server.go.set()
        async with await Engine.open(tmp_path / "ledger.db", root=tmp_path / "nodes") as engine:
            await engine.wait(JOB, timeout_s=BOUND_S)
            assert engine.world.task(JOB, "t1").result == "success"

    asyncio.run(scenario())
    assert (tmp_path / "ran").read_text() == "ran\n"
    assert file_server.asked["/c/x"] == 2
