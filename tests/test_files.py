"""Files of nodes for programs: what may be read, what not, and why something is not there."""

import os
from pathlib import Path

import pytest

from jobledger import files
from jobledger.core.errors import ExecutorError, RequestRefused
from jobledger.core.ids import Duration, Micros
from jobledger.core.ports import NewEvent
from jobledger.core.requests import CreatePool, ReimageNode, RemoveNode, SubmitJob
from jobledger.core.specs import JobConstraints, JobSpec, PoolInfo, PoolSpec, TaskSpec
from jobledger.eventstore import MemoryStore
from jobledger.executors.local import LocalExecutor
from jobledger.testing.scenario import Scenario

BEGIN = Micros(1_795_444_415_000_000)


@pytest.fixture
def story(tmp_path):
    """A scenario in which task `t` of job `j` has run, its folder on disk, and what finds it."""

    class Story:
        def __init__(self):
            self.s = Scenario()
            self.s.now = BEGIN
            self.s.finish(CreatePool(spec=PoolSpec(id="p", nodes=2)))
            job = JobSpec(id="j", pool_info=PoolInfo(pool_id="p"), constraints=JobConstraints(retention_time=0))
            self.s.finish(SubmitJob(spec=job, tasks=(TaskSpec(id="t", command_line="work"),)))
            self.executor = LocalExecutor(tmp_path / "nodes")
            self.folder = Path(self.executor.folder_path("p", "p-1", "j", "t"))
            (self.folder / "wd" / "deep").mkdir(parents=True)
            (self.folder / "stdout.txt").write_bytes(b"out\n")
            (self.folder / "wd" / "deep" / "file").write_bytes(b"content")

        @property
        def store(self):
            store = MemoryStore()
            lease = store.acquire_lease("test", now=BEGIN, ttl=Duration(1))
            new = [NewEvent(event=event, recorded_at=at, causation="engine", correlation="engine", actor="x") for event, at in self.s.log]
            store.append(new, expected=0, lease=lease)
            return store

        def of_task(self, task="t", **more):
            return files.of_task(self.store, self.s.world, lambda _pool: self.executor, "j", task, **more)

    return Story()


def refusal(code, ask, *arguments, **named):
    with pytest.raises(RequestRefused) as refused:
        list(ask(*arguments, **named))
    assert refused.value.code == code
    return str(refused.value)


def test_a_folder_is_listed_flat_and_deep(story):
    folder = story.of_task()
    assert [(entry.path, entry.kind, entry.size) for entry in folder.list()] == [("stdout.txt", "file", 4), ("wd", "folder", None)]
    assert [entry.path for entry in folder.list(deep=True)] == ["stdout.txt", "wd", "wd/deep", "wd/deep/file"]
    assert [entry.path for entry in folder.list("wd/deep")] == ["wd/deep/file"]
    (entry,) = folder.list("wd/deep/file")
    assert (entry.path, entry.size) == ("wd/deep/file", 7)
    assert abs(entry.modified_at - (story.folder / "wd" / "deep" / "file").stat().st_mtime_ns // 1000) <= 1


def test_a_file_is_read(story):
    with story.of_task().open("wd/deep/file") as file:
        assert file.read() == b"content"


@pytest.mark.parametrize("path", ["../t/stdout.txt", "wd/../../../secret", "/etc/passwd", "wd/\0", ".."])
def test_a_path_that_leads_out_is_refused(story, path):
    refusal("InvalidInput", story.of_task().open, path)
    refusal("InvalidInput", story.of_task().list, path)


@pytest.mark.parametrize("path", ["", ".", "wd", "./"])
def test_a_folder_is_no_file(story, path):
    refusal("InvalidInput", story.of_task().open, path)


def test_links_are_shown_and_never_followed(story, tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("not yours")
    (story.folder / "wd" / "link").symlink_to(tmp_path / "secret")
    (story.folder / "wd" / "key").symlink_to(tmp_path / "secret" / "key")
    folder = story.of_task()
    shown = {entry.path: (entry.kind, entry.target) for entry in folder.list("wd", deep=True)}
    assert shown["wd/link"] == ("link", str(tmp_path / "secret"))
    assert "wd/link/key" not in shown
    refusal("InvalidInput", folder.open, "wd/key")
    refusal("FileNotFound", folder.open, "wd/link/key")
    assert [entry.kind for entry in folder.list("wd/link")] == ["link"]


def test_a_task_whose_folder_became_a_link_shows_nothing_of_elsewhere(story, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("not yours")
    story.folder.rename(tmp_path / "away")
    story.folder.symlink_to(secret)
    refusal("FileNotFound", story.of_task().list)
    refusal("FileNotFound", story.of_task().open, "key")


def test_a_fifo_is_listed_and_not_opened(story):
    os.mkfifo(story.folder / "wd" / "pipe")
    folder = story.of_task()
    assert {entry.path: entry.kind for entry in folder.list("wd")}["wd/pipe"] == "other"
    assert "FIFO" in refusal("InvalidInput", folder.open, "wd/pipe")


def test_what_is_closed_to_us_is_said_to_be(story):
    (story.folder / "wd" / "deep").chmod(0)
    try:
        if os.geteuid() == 0:
            pytest.skip("root reads everything")
        assert [entry.path for entry in story.of_task().list("wd", deep=True)] == ["wd/deep"]
        assert "Permission denied" in refusal("TaskFilesUnavailable", story.of_task().open, "wd/deep/file")
    finally:
        (story.folder / "wd" / "deep").chmod(0o700)


# --- why something is not there -------------------------------------------------------------------------------


def test_a_file_that_is_not_there(story):
    assert "wd/none" in refusal("FileNotFound", story.of_task().open, "wd/none")
    refusal("FileNotFound", story.of_task().list, "stdout.txt/inside")


def test_files_that_were_removed_say_when_and_by_which_event(story):
    story.s.pass_time(1)
    story.s.run()
    text = refusal("TaskFilesCleanedup", story.of_task)
    position = len(story.s.log)
    assert f"(position {position}, files.removed)" in text
    assert "2026-11-23 14:33:35Z" in text


def test_files_of_a_node_that_was_emptied_or_left(story):
    story.s.finish(ReimageNode(node="p-1"))
    assert "emptied" in refusal("TaskFilesUnavailable", story.of_task)
    story.s.finish(RemoveNode(node="p-1"))
    assert "left its pool" in refusal("TaskFilesUnavailable", story.of_task)


def test_names_that_mean_nothing(story):
    refusal("TaskNotFound", story.of_task, "no-such-task")
    assert "it ran on: p-1" in refusal("FileNotFound", story.of_task, node="p-2")
    refusal("JobNotFound", files.of_task, story.store, story.s.world, lambda _: story.executor, "no-such-job", "t")
    refusal("NodeNotFound", files.of_node, story.s.world, lambda _: story.executor, "no-such-node")


def test_the_folder_of_a_node_and_of_its_start_task(story):
    node = files.of_node(story.s.world, lambda _: story.executor, "p-1")
    assert [entry.path for entry in node.list()] == ["workitems"]
    start = files.of_start_task(story.s.world, lambda _: story.executor, "p-1")
    refusal("FileNotFound", start.list)
    (Path(node.path) / "startup").mkdir()
    (Path(node.path) / "startup" / "stdout.txt").write_text("began\n")
    with start.open("stdout.txt") as file:
        assert file.read() == b"began\n"


def test_an_executor_that_cannot_tell_is_named(story):
    with pytest.raises(ExecutorError, match="pool p cannot say"):
        files.of_node(story.s.world, lambda _: object(), "p-1")
