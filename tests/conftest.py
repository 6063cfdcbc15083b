"""What tests of the shell share: an executor that answers from a script, jobs for it and for real processes, and a web server with files."""

import asyncio
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from jobledger import ExecutorError, JobId, JobSpec, NodeId, PoolId, PoolInfo, PoolSpec, PreparationSpec, ReleaseSpec, TaskId, TaskSpec
from jobledger.core.commands import Command, RunCommand
from jobledger.core.ports import ReportSink
from jobledger.core.reports import ExecutionLost, NodeReady, Report
from jobledger.testing.scenario import Script, ScriptedExecutor


class InstantExecutor:
    """Answers every command from a script in the loop's next turn.  It has all that a test may want to look at or to break."""

    def __init__(self, script: Script | None = None) -> None:
        self.script = ScriptedExecutor(script)
        self.commands: list[Command] = []
        self.recovered: tuple[list[RunCommand], dict[NodeId, PoolId]] | None = None
        self.opened = 0
        self.closed = False
        self.silent = False
        self._sink: ReportSink | None = None
        self._failure: asyncio.Future[ExecutorError] | None = None

    async def open(self, sink: ReportSink, *, ledger_id: str) -> None:
        assert len(ledger_id) == 8
        self._sink = sink
        self.opened += 1
        self._failure = asyncio.get_running_loop().create_future()
        await asyncio.sleep(0)

    def recover(self, commands: Sequence[RunCommand], nodes: Mapping[NodeId, PoolId]) -> None:
        self.recovered = (list(commands), dict(nodes))
        for node in nodes:
            self.report(NodeReady(node=node, boot_id=f"{node}-boot-1"))
        for command in commands:
            self.report(ExecutionLost(execution=command.launch.execution, reason="this executor remembers nothing"))

    def submit(self, commands: Sequence[Command]) -> None:
        self.commands.extend(commands)
        if not self.silent:
            for command in commands:
                for report in self.script.answer(command):
                    self.report(report)

    def report(self, report: Report) -> None:
        """Report in the loop's next turn."""
        assert self._sink is not None
        asyncio.get_running_loop().call_soon(self._sink, report)

    def fail(self, why: str) -> None:
        """Be unable to do any more."""
        assert self._failure is not None
        self._failure.set_result(ExecutorError(why))

    async def failed(self) -> ExecutorError:
        assert self._failure is not None
        return await asyncio.shield(self._failure)

    async def close(self) -> None:
        self.closed = True


def _pool(pool="p", **more):
    return PoolSpec(id=PoolId(pool), executor=more.pop("executor", "instant"), **more)


def _job(job="j", *, pool="p", prep=None, release=None, **more):
    """A job that ends by itself; `prep` and `release` are command lines."""
    return JobSpec(
        id=JobId(job),
        pool_info=PoolInfo(pool_id=PoolId(pool)),
        job_preparation_task=PreparationSpec(command_line=prep) if prep else None,
        job_release_task=ReleaseSpec(command_line=release) if release else None,
        on_all_tasks_complete=more.pop("on_all_tasks_complete", "terminatejob"),
        **more,
    )


def _tasks(count, command_line="work", **more):
    return [TaskSpec(id=TaskId(f"t{number}"), command_line=command_line, **more) for number in range(1, count + 1)]


class FileServer(ThreadingHTTPServer):
    """Files by path, to be fetched with GET and replaced with PUT.  Whoever asks for a path in `held` waits until `go` is set."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _FileHandler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()
        self.held: set[str] = set()
        self.go = threading.Event()

    def hold(self, path: str) -> None:
        """From now on nobody gets that path."""
        self.go.clear()
        self.held.add(path)

    def handle_error(self, request: object, client_address: object) -> None:
        return  # a client that went away


class _FileHandler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        self._wait()
        body = self.server.files.get(self.path)
        self._answer(404 if body is None else 200, body or b"")

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._wait()
        self.server.files[self.path] = body
        self._answer(201, b"")

    def _wait(self) -> None:
        self.server.asked[self.path] += 1
        if self.path in self.server.held:
            self.server.go.wait(60)

    def _answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        return


@pytest.fixture
def file_server():
    """A web server of this test's own."""
    with FileServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.go.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def instant():
    """The class of executors that answer from a script at once."""
    return InstantExecutor


@pytest.fixture
def pool_spec():
    return _pool


@pytest.fixture
def shell_job():
    return _job


@pytest.fixture
def shell_tasks():
    return _tasks
