"""The three uses for which Azure Batch's article recommends preparation and release, as examples that are run: common data, outputs deleted
between jobs of a shared pool, and logs kept.
"""

import http.server
import subprocess
import sys
import tarfile
import threading
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from jobledger import SqliteStore
from jobledger.core import events as e

EXAMPLES = Path(__file__).parents[2] / "examples"
FTP_SERVER = Path(__file__).parents[1] / "executors" / "serve_ftp.py"
LEDGER = Path(".jobledger/ledger.db")


@contextmanager
def serving(folder):
    """A web server of a folder on this machine: its port, and the paths that were asked for."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port, asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def example(name, **changes):
    """An example with some of its texts changed, as a file of this test's own."""
    text = (EXAMPLES / name).read_text()
    for before, after in changes.values():
        assert before in text
        text = text.replace(before, after)
    path = Path(name).name
    Path(path).write_text(text)
    return path


def events(kind):
    with closing(SqliteStore.open(LEDGER, read_only=True)) as store:
        return [recorded.event for recorded in store.read() if isinstance(recorded.event, kind)]


def output(task):
    (path,) = Path(".jobledger/nodes").rglob(f"{task}/stdout.txt")
    return path.read_text().strip()


def test_common_data_is_fetched_once_on_each_node_and_used_by_every_task_there(invoke):
    with serving(EXAMPLES / "data") as (port, asked):
        result = invoke("run", example("common_data.yaml", port=("127.0.0.1:8000", f"127.0.0.1:{port}")))
    assert result.exit_code == 0, result.output
    used = {event.node for event in events(e.TaskRunning)}
    assert asked == ["/words.txt"] * len(used)
    assert (output("words-with-a"), output("first-word")) == ("8", "anchor")
    assert not list(Path(".jobledger/nodes").rglob("shared/words")), "release has removed it"


def test_outputs_on_a_shared_pool_are_deleted_before_the_next_job(invoke):
    for name in ("first.yaml", "second.yaml"):
        result = invoke("run", example(f"shared_pool/{name}"))
        assert result.exit_code == 0, result.output
    assert {event.result for event in events(e.TaskCompleted)} == {"success"}
    assert not list(Path(".jobledger/nodes").rglob("frame-*"))
    assert len(events(e.PoolCreated)) == 1


@pytest.fixture(params=["a folder", "a file URL", "an object store's URL"])
def store(request, folder):
    """Where logs are kept: the folder in which they arrive, and how a job names it."""
    kept = folder / "kept"
    kept.mkdir()
    if request.param != "an object store's URL":
        yield kept, f"file://{kept}" if request.param == "a file URL" else str(kept)
        return
    pytest.importorskip("fsspec")
    pytest.importorskip("pyftpdlib")
    server = subprocess.Popen([sys.executable, FTP_SERVER, kept, "secret"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield kept, f"ftp://ann:secret@127.0.0.1:{server.stdout.readline().strip()}"
    server.communicate(timeout=30)


def test_logs_are_compressed_and_copied_out_by_release(invoke, store):
    kept, address = store
    result = invoke("run", example("collect_logs.yaml", kept=("/tmp/jobledger-logs", address)))
    assert result.exit_code == 0, result.output
    ran = {event.node for event in events(e.TaskRunning)}
    archives = list((kept / "collect-logs").iterdir())
    assert {path.name for path in archives} == {f"{node}.tar.gz" for node in ran}
    found = set()
    for path in archives:
        with tarfile.open(path) as archive:
            found |= {Path(name).stem for name in archive.getnames() if name.endswith(".log")}
    assert found == {"step-1", "step-2", "step-3", "step-4"}
    assert not list(Path(".jobledger/nodes").rglob("step-*.log"))
