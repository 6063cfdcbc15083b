"""files: what is listed and fetched of tasks and nodes, and how it is refused."""

import json
from pathlib import Path

import pytest

from jobledger.core.decide import ClockAdvanced
from jobledger.core.requests import DisableScheduling
from jobledger.core.specs import JobConstraints
from jobledger.testing.scenario import Hangs

OUTPUT = Path(".jobledger/nodes/p")


def put(node, task, name, data):
    path = OUTPUT / node / "workitems" / "sample" / "job-1" / task / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_files_of_a_task_are_listed_and_fetched(invoke, record, scenario, folder):
    record(scenario("t1"))
    put("p-1", "t1", "stdout.txt", b"out\n")
    put("p-1", "t1", "wd/data.bin", b"\xff\x00" * 1000)
    lines = invoke("files", "ls", "sample", "t1").stdout.splitlines()
    assert lines[0].endswith("/p/p-1/workitems/sample/job-1/t1")
    assert lines[1].split() == ["size", "modified", "name"]
    assert [(line.split()[0], line.split()[-1]) for line in lines[2:]] == [("4", "stdout.txt"), ("folder", "wd/")]
    assert "2000" in invoke("files", "ls", "sample", "t1", "-r").stdout
    assert invoke("files", "get", "sample", "t1", "wd/data.bin").stdout_bytes == b"\xff\x00" * 1000
    assert invoke("files", "get", "sample", "t1", "stdout.txt", "-o", "here.txt").exit_code == 0
    assert (folder / "here.txt").read_bytes() == b"out\n"
    assert sorted(path.name for path in folder.iterdir()) == [".jobledger", "here.txt"]


def test_a_file_that_cannot_be_written_leaves_nothing_behind(invoke, record, scenario, folder):
    record(scenario("t1"))
    put("p-1", "t1", "stdout.txt", b"out\n")
    result = invoke("files", "get", "sample", "t1", "stdout.txt", "-o", "no/such/folder")
    assert result.exit_code == 1
    assert "no/such/folder" in result.stderr


def test_files_as_json_are_those_of_azure(invoke, record, scenario):
    record(scenario("t1"))
    put("p-1", "t1", "wd/data", b"12")
    shown = json.loads(invoke("files", "ls", "sample", "t1", "-r", "--json").stdout)
    assert shown["nodeId"] == "p-1"
    names = {entry["name"]: entry for entry in shown["files"]}
    assert (names["wd"]["isDirectory"], names["wd/data"]["isDirectory"]) == (True, False)
    assert names["wd/data"]["properties"]["contentLength"] == 2
    assert set(names["wd/data"]["properties"]) == {"lastModified", "fileMode", "contentLength"}


def test_a_preparation_on_several_nodes_needs_one_named(invoke, record, scenario):
    record(scenario("t1", "t2", nodes=2))
    for node in ("p-1", "p-2"):
        put(node, "jobpreparation", "stdout.txt", f"on {node}\n".encode())
    result = invoke("files", "get", "sample", "jobpreparation", "stdout.txt")
    assert result.exit_code == 2
    assert "jobpreparation of job sample has files on p-1, p-2: say which with --node" in result.stderr
    assert invoke("files", "get", "sample", "jobpreparation", "stdout.txt", "--node", "p-2").stdout == "on p-2\n"


def test_a_task_that_ran_on_several_nodes_is_shown_where_it_ran_last(invoke, record, scenario):
    s = scenario("t1", nodes=2, script={"t1": Hangs()})
    s.finish(DisableScheduling(node="p-1"))
    s.answer("task", "exited")
    s.run()
    record(s)
    for node in ("p-1", "p-2"):
        put(node, "t1", "stdout.txt", f"on {node}\n".encode())
    result = invoke("files", "get", "sample", "t1", "stdout.txt")
    assert (result.stdout, result.stderr) == ("on p-2\n", "jobledger: an earlier run left files on p-1 too (--node)\n")
    result = invoke("files", "get", "sample", "t1", "stdout.txt", "--node", "p-1")
    assert (result.stdout, result.stderr) == ("on p-1\n", "")


def test_the_folder_of_a_node(invoke, record, scenario):
    record(scenario("t1"))
    (OUTPUT / "p-1" / "shared").mkdir(parents=True)
    (OUTPUT / "p-1" / "shared" / "data").write_text("x")
    assert "shared/" in invoke("files", "ls", "--node", "p-1").stdout
    assert "shared/data" in invoke("files", "ls", "--node", "p-1", "shared").stdout
    assert invoke("files", "get", "--node", "p-1", "shared/data").stdout == "x"
    assert invoke("files", "ls", "--node", "p-9").exit_code == 3


@pytest.mark.parametrize("words", [("ls",), ("ls", "sample"), ("get", "sample", "t1"), ("get", "--node", "p-1"), ("ls", "a", "b", "c", "d")])
def test_too_few_or_too_many_words(invoke, record, scenario, words):
    record(scenario("t1"))
    assert invoke("files", *words).exit_code == 2


@pytest.mark.parametrize(("path", "status"), [("../t2/stdout.txt", 2), ("/etc/passwd", 2), ("none", 3)])
def test_paths_that_are_wrong(invoke, record, scenario, path, status):
    record(scenario("t1"))
    put("p-1", "t1", "stdout.txt", b"")
    assert invoke("files", "get", "sample", "t1", path).exit_code == status


def test_files_that_were_removed(invoke, record, scenario):
    s = scenario("t1", constraints=JobConstraints(retention_time=0))
    s.when(ClockAdvanced())
    s.run()
    record(s)
    for words in (("files", "ls", "sample", "t1"), ("files", "get", "sample", "t1", "stdout.txt"), ("log", "sample", "t1")):
        result = invoke(*words)
        assert result.exit_code == 3
        assert "refused (TaskFilesCleanedup): the files of t1 of job sample on p-1 were removed at " in result.stderr
        assert "files.removed)" in result.stderr
    error = json.loads(invoke("files", "ls", "sample", "t1", "--json").stderr)["error"]
    assert error["code"] == "TaskFilesCleanedup"
    assert "FilesGone" in invoke("explain", "sample", "t1").stdout
    assert "files: removed" in invoke("status", "sample").stdout
    (task,) = json.loads(invoke("tasks", "sample", "--json").stdout)["tasks"]
    assert task["nodeInfo"]["filesState"] == "gone"


def test_it_is_told_when_files_go(invoke, record, scenario):
    record(scenario("t1"))
    assert "its files on p-1 will be removed, at 2026-11-30T14:33:35" in invoke("explain", "sample", "t1").stdout
    assert "files: 3 folders, of which 3 will be removed at 2026-11-30 14:33:35Z" in invoke("status", "sample").stdout
    (task,) = json.loads(invoke("tasks", "sample", "--json").stdout)["tasks"]
    assert task["nodeInfo"]["filesState"] == "kept"
    assert task["nodeInfo"]["filesRemovalTime"].startswith("2026-11-30T14:33:35")


def test_a_task_that_has_not_run_has_no_files(invoke, record, scenario):
    record(scenario("t1", "t2", script={"t1": Hangs()}))
    result = invoke("files", "ls", "sample", "t2")
    assert (result.exit_code, "has not run" in result.stderr) == (3, True)


def test_words_are_completed(start, record, scenario, monkeypatch):
    record(scenario("t1", "t2"))
    monkeypatch.setenv("_JOBLEDGER_COMPLETE", "bash_complete")
    for words, number, expected in (("jobledger files ls ", 3, "sample"), ("jobledger files ls sample t", 4, "t2")):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(number))
        assert expected in start().communicate(timeout=30)[0]
