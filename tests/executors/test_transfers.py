"""Files fetched and uploaded by real processes, from real servers and folders."""

import asyncio
import base64
import contextlib
import io
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import HTTPRedirectHandler, Request

import psutil
import pytest

from jobledger.core.failure import FailureInfo
from jobledger.executors import web as web_module
from jobledger.executors.transfers import Fetch, FetchAll, Step, Transfers, Upload
from jobledger.executors.trouble import Trouble

SIGNATURE = "sig=Abc123%2Fdef456%3D"
REDIRECTS = {
    "body": "/body",
    "private": "/private",
    "itself": "/to/itself",
    "file": "file:///etc/passwd",
    "ftp": "ftp://127.0.0.1/x",
    "signed": f"file:///x?{SIGNATURE}",
}
BODY = b"0123456789" * 100_000


class Handler(BaseHTTPRequestHandler):
    """Answers by path, well or badly; remembers what it was asked."""

    server: "WebServer"
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        path, _, _ = self.path.partition("?")
        match path.strip("/").split("/"):
            case ["body"]:
                self.answer(200, BODY)
            case ["status", code]:
                self.answer(int(code), b"")
            case ["to", target]:
                self.answer(302, b"", Location={**REDIRECTS, "elsewhere": self.server.elsewhere}[target])
            case ["private"]:
                wanted = "Basic " + base64.b64encode(b"user:pass word").decode()
                self.answer(200 if self.headers["Authorization"] == wanted else 401, b"private")
            case ["truncated"]:
                self.answer(200, BODY[:1000], length=len(BODY))
                self.close_connection = True
            case ["hiccup"]:
                self.answer(503 if len(self.server.asked) == 1 else 200, b"at last")
            case ["stalled"]:
                self.answer(200, b"begun", length=len(BODY))
                self.server.over.wait(30)
                self.close_connection = True
            case ["silent"]:
                self.server.over.wait(30)
                self.close_connection = True
            case ["slow"]:
                self.send_response(200)
                self.send_header("Content-Length", "8")
                self.end_headers()
                for _ in range(8):
                    self.server.over.wait(0.25)
                    self.wfile.write(b"x")
            case ["endless"]:
                self.send_response(200)
                self.end_headers()
                with contextlib.suppress(OSError):
                    while not self.server.over.wait(0.02):
                        self.wfile.write(b"x" * 100)
                self.close_connection = True

    def do_PUT(self) -> None:
        path = self.path.partition("?")[0]
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if path.startswith("/denied"):
            self.answer(403, b"")
        elif path.startswith("/taken"):
            self.answer(409, b"")
        else:
            self.server.put[path] = body
            self.server.asked.append((self.path, dict(self.headers)))
            self.answer(201, b"")

    def answer(self, code: int, body: bytes, *, length: int | None = None, **headers: str) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *args: object) -> None:
        return


class WebServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.put: dict[str, bytes] = {}
        self.over = threading.Event()
        self.elsewhere = ""
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        return  # a client that went away


@contextlib.contextmanager
def serving() -> Iterator[WebServer]:
    with WebServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def web() -> Iterator[WebServer]:
    with serving() as server:
        yield server


@pytest.fixture
def wd(tmp_path: Path) -> Path:
    folder = tmp_path / "task" / "wd"
    folder.mkdir(parents=True)
    return folder


def run(folder: Path, *steps: Step, log: Path | None = None, stall_s: float = 20.0, tries: int = 2) -> FailureInfo | None:
    return asyncio.run(asyncio.wait_for(Transfers(stall_s=stall_s, tries=tries, pause_s=0.05).run(steps, folder=folder, log=log), 60))


def names(folder: Path) -> list[str]:
    """Every file below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def what(failure: FailureInfo | None) -> tuple[str, str]:
    assert failure is not None
    return failure.category, failure.code


# --- fetching -------------------------------------------------------------------------------------------------


def test_files_are_fetched_with_their_modes(web: WebServer, wd: Path, tmp_path: Path) -> None:
    (tmp_path / "with space.txt").write_text("local")
    local = (tmp_path / "with space.txt").as_uri()
    assert "%20" in local
    done = run(
        wd, Fetch(f"{web.url}/body", "data/deep/in.bin", 0o640), Fetch(local, "a.txt"), Fetch(str(tmp_path / "with space.txt"), "b.txt", 0o755)
    )
    assert done is None
    assert (wd / "data/deep/in.bin").read_bytes() == BODY
    assert (wd / "a.txt").read_text() == (wd / "b.txt").read_text() == "local"
    assert [oct((wd / name).stat().st_mode & 0o7777) for name in ("data/deep/in.bin", "a.txt", "b.txt")] == ["0o640", "0o770", "0o755"]
    assert names(wd) == ["a.txt", "b.txt", "data/deep/in.bin"]


@pytest.mark.parametrize(
    ("path", "category", "code", "says"),
    [
        ("status/404", "usererror", "BlobNotFound", "404 Not Found"),
        ("status/410", "usererror", "BlobNotFound", "410"),
        ("status/401", "usererror", "BlobAccessDenied", "401"),
        ("status/403", "usererror", "BlobAccessDenied", "403 Forbidden"),
        ("status/500", "servererror", "BlobDownloadMiscError", "500"),
        ("status/418", "servererror", "BlobDownloadMiscError", "418"),
        ("truncated", "servererror", "BlobDownloadMiscError", "ended after 1000 of 1000000 bytes"),
        ("to/file", "usererror", "BlobDownloadMiscError", "redirects to file:///etc/passwd"),
        ("to/ftp", "usererror", "BlobDownloadMiscError", "redirects to ftp://127.0.0.1/x"),
        ("to/itself", "servererror", "BlobDownloadMiscError", "redirects for ever, or to nowhere"),
    ],
)
def test_a_server_that_does_not_deliver(web: WebServer, wd: Path, path: str, category: str, code: str, says: str) -> None:
    failure = run(wd, Fetch(f"{web.url}/{path}", "in.bin"))
    assert what(failure) == (category, code)
    assert failure is not None
    assert failure.message.startswith("in.bin: http://127.0.0.1:")
    assert says in failure.message
    assert names(wd) == []


def test_a_redirect_is_followed(web: WebServer, wd: Path) -> None:
    assert run(wd, Fetch(f"{web.url}/to/body", "in.bin")) is None
    assert (wd / "in.bin").read_bytes() == BODY


def test_a_redirect_from_https_to_http_is_not_followed() -> None:
    handler = next(each for each in web_module._opener().handlers if isinstance(each, HTTPRedirectHandler))
    asked, wanted = Request("https://host/x?sig=Abc123def"), Message()
    wanted["location"] = "http://host/x?sig=Abc123def"
    with pytest.raises(Trouble, match=r"^https://host/x: the server redirects to http://host/x, and from https that is not followed$"):
        handler.http_error_302(asked, io.BytesIO(), 302, "Found", wanted)


def test_a_hiccup_is_tried_again(web: WebServer, wd: Path) -> None:
    assert run(wd, Fetch(f"{web.url}/hiccup", "in.bin")) is None
    assert (wd / "in.bin").read_bytes() == b"at last"
    assert len(web.asked) == 2


def test_no_server_there(wd: Path) -> None:
    failure = run(wd, Fetch("http://127.0.0.1:1/x", "in.bin"))
    assert what(failure) == ("servererror", "BlobDownloadMiscError")
    assert "Connection refused" in str(failure)


@pytest.mark.parametrize("path", ["stalled", "silent"])
def test_a_server_that_falls_silent(web: WebServer, wd: Path, path: str) -> None:
    began = time.monotonic()
    failure = run(wd, Fetch(f"{web.url}/{path}", "in.bin"), stall_s=1.0)
    assert what(failure) == ("servererror", "BlobDownloadTimedOut")
    assert time.monotonic() - began < 25
    assert names(wd) == []


def test_a_slow_server_is_waited_for(web: WebServer, wd: Path) -> None:
    """Two seconds in all, and no silence of one."""
    assert run(wd, Fetch(f"{web.url}/slow", "in.bin"), stall_s=1.0) is None
    assert (wd / "in.bin").read_bytes() == b"xxxxxxxx"


def test_a_local_file_that_is_not_there_or_is_none(wd: Path, tmp_path: Path) -> None:
    assert what(run(wd, Fetch(f"file://{tmp_path}/none", "in.bin"))) == ("usererror", "BlobNotFound")
    assert what(run(wd, Fetch(f"{tmp_path}", "in.bin"))) == ("usererror", "BlobDownloadMiscError")
    os.mkfifo(tmp_path / "fifo")
    assert what(run(wd, Fetch(f"{tmp_path}/fifo", "in.bin"))) == ("usererror", "BlobDownloadMiscError")
    assert names(wd) == []


def test_the_first_failure_ends_it(wd: Path, tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    failure = run(wd, Fetch(f"{tmp_path}/there", "1"), Fetch(f"{tmp_path}/none", "2"), Fetch(f"{tmp_path}/there", "3"))
    assert what(failure) == ("usererror", "BlobNotFound")
    assert failure is not None
    assert [(each.name, each.value) for each in failure.details] == [("BlobSource", f"{tmp_path}/none"), ("FilePath", "2")]
    assert names(wd) == ["1"]


@pytest.mark.parametrize("url", ["in.txt", "", "nothing://host/x", "file://elsewhere/x", "file:relative"])
def test_an_address_that_is_none(wd: Path, url: str) -> None:
    assert what(run(wd, Fetch(url, "in.bin"))) == ("usererror", "BlobDownloadMiscError")


def test_a_failure_with_a_text_without_end_is_cut(wd: Path) -> None:
    """What a store or a path says may be long; the engine must not fall over it."""
    failure = run(wd, Fetch("/" + "x" * (1 << 20), "in.bin"))
    assert what(failure) == ("servererror", "BlobDownloadMiscError")
    assert failure is not None
    assert len(failure.message) <= 2000


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a b", "http://127.0.0.1:port/a"])
def test_a_web_address_that_is_none_is_the_users_to_mend(wd: Path, url: str) -> None:
    failure = run(wd, Fetch(url, "in.bin"))
    assert what(failure) == ("usererror", "BlobDownloadMiscError")
    assert "%20" in str(failure)


# --- secrets --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["status/404", "status/500", "truncated", "silent", "to/signed"])
def test_no_failure_tells_a_secret(web: WebServer, wd: Path, path: str) -> None:
    failure = run(
        wd,
        Fetch(f"{web.url}/{path}".replace("http://", "http://me:hunter2secret@") + ("&" if "?" in path else "?") + SIGNATURE, "in.bin"),
        stall_s=1.0,
    )
    assert failure is not None
    for secret in ("Abc123", "hunter2", "me:"):
        assert secret not in str(failure)


def test_a_malformed_address_is_not_shown_whole(wd: Path) -> None:
    failure = run(wd, Fetch(f"http://me:hunter2secret@127.0.0.1:nothing/x?{SIGNATURE} y", "in.bin"))
    assert failure is not None
    assert "hunter2" not in str(failure)
    assert "Abc123" not in str(failure)


def test_a_user_and_password_go_to_their_server_only(web: WebServer, wd: Path) -> None:
    url = f"http://user:pass%20word@127.0.0.1:{web.server_port}"
    assert run(wd, Fetch(f"{url}/private", "in.bin"), Fetch(f"{url}/to/private", "again.bin")) is None
    assert (wd / "in.bin").read_bytes() == (wd / "again.bin").read_bytes() == b"private"
    with serving() as other:
        web.elsewhere = f"{other.url}/body"
        assert run(wd, Fetch(f"{url}/to/elsewhere", "other.bin")) is None
        assert [headers.get("Authorization") for _, headers in other.asked] == [None]


# --- the process ----------------------------------------------------------------------------------------------


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if is_transfer(child)]


def is_transfer(process: psutil.Process) -> bool:
    try:
        return "transfer.py" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # it has just ended
        return False


async def until(condition: Callable[[], object]) -> None:
    """Wait until `condition()` holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - files and processes tell nobody when they come
            await asyncio.sleep(0.01)


def test_a_cancellation_ends_the_process_and_leaves_nothing(web: WebServer, wd: Path) -> None:
    async def drive() -> None:
        task = asyncio.create_task(Transfers().run([Fetch(f"{web.url}/endless", "in.bin")], folder=wd))
        await until(lambda: names(wd))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert children() == []

    asyncio.run(drive())
    assert names(wd) == []


def test_a_process_that_is_killed_is_a_failure(web: WebServer, wd: Path) -> None:
    async def drive() -> FailureInfo | None:
        task = asyncio.create_task(Transfers().run([Fetch(f"{web.url}/endless", "in.bin")], folder=wd))
        await until(lambda: names(wd))
        (child,) = children()
        child.kill()
        return await asyncio.wait_for(task, 20)

    assert what(asyncio.run(drive())) == ("servererror", "BlobDownloadMiscError")
    assert not (wd / "in.bin").exists()


def test_the_process_ends_when_its_parent_is_killed(web: WebServer, wd: Path) -> None:
    code = (
        "import asyncio, sys; from pathlib import Path; from jobledger.executors.transfers import Fetch, Transfers\n"
        "asyncio.run(Transfers().run([Fetch(sys.argv[1], 'in.bin')], folder=Path(sys.argv[2])))"
    )
    with subprocess.Popen([sys.executable, "-c", code, f"{web.url}/endless", str(wd)]) as parent:
        asyncio.run(until(lambda: names(wd)))
        (child,) = psutil.Process(parent.pid).children()
        parent.kill()
        child.wait(20)
    assert names(wd) == []


def test_no_more_than_so_many_at_once(web: WebServer, wd: Path) -> None:
    async def drive() -> int:
        transfers = Transfers(most=2)
        tasks = [asyncio.create_task(transfers.run([Fetch(f"{web.url}/slow", f"{number}")], folder=wd)) for number in range(4)]
        most = 0
        while not all(task.done() for task in tasks):
            most = max(most, len(children()))
            await asyncio.sleep(0.02)
        assert [task.result() for task in tasks] == [None] * 4
        return most

    assert asyncio.run(drive()) == 2


def test_nothing_to_do_starts_nothing(tmp_path: Path) -> None:
    assert run(tmp_path / "none") is None


# --- containers -----------------------------------------------------------------------------------------------


def test_a_folder_is_fetched_with_its_paths(wd: Path, tmp_path: Path) -> None:
    for name in ("data/1.txt", "data/sub/2.txt", "other/3.txt", "database"):
        (tmp_path / "box" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "box" / name).write_text(name)
    assert run(wd, FetchAll(f"{tmp_path}/box", "data", "in/here"), FetchAll(f"file://{tmp_path}/box/", None, None)) is None
    assert names(wd) == sorted(
        ["in/here/data/1.txt", "in/here/data/sub/2.txt", "in/here/database", "data/1.txt", "data/sub/2.txt", "database", "other/3.txt"]
    )
    assert (wd / "in/here/data/sub/2.txt").read_text() == "data/sub/2.txt"


def test_a_container_that_is_not_there_or_has_no_list(web: WebServer, wd: Path, tmp_path: Path) -> None:
    assert what(run(wd, FetchAll(f"{tmp_path}/none", None, None))) == ("usererror", "ResourceContainerNotFound")
    assert what(run(wd, FetchAll(f"{web.url}/x", None, None))) == ("usererror", "ResourceContainerListMiscError")


# --- uploading ------------------------------------------------------------------------------------------------


@pytest.fixture
def outputs(wd: Path) -> Path:
    """A task's folder after it ran."""
    for name in ("stdout.txt", "stderr.txt", "wd/a.csv", "wd/out/b.csv", "wd/out/deep/c.csv", "wd/out/.hidden", "wd/out/x[1].txt"):
        (wd.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (wd.parent / name).write_text(name)
    return wd.parent


def upload(task: Path, pattern: str, url: str | Path, path: str | None = None, **environment: str) -> FailureInfo | None:
    return run(task, Upload(str(task), pattern, str(url), path, environment), log=task)


@pytest.mark.parametrize(
    ("pattern", "path", "found"),
    [
        ("a.csv", None, ["a.csv"]),
        ("a.csv", "renamed.csv", ["renamed.csv"]),
        ("out/b.csv", None, ["b.csv"]),
        ("*.csv", "results", ["results/a.csv"]),
        ("**/*.csv", None, ["a.csv", "out/b.csv", "out/deep/c.csv"]),
        ("out/**/*.csv", "r", ["r/b.csv", "r/deep/c.csv"]),
        ("out/**", None, ["b.csv", "deep/c.csv", "x[1].txt"]),
        ("out/.*", None, [".hidden"]),
        ("out/x[[]1].txt", None, ["x[1].txt"]),
        ("../std*.txt", "logs", ["logs/stderr.txt", "logs/stdout.txt"]),
        ("../stdout.txt", "$AZ_ID/${NAME}.log", ["task7/ann.log"]),
        ("$WD/*.csv", None, ["a.csv"]),
        ("o?t/[!x]*.csv", None, ["out/b.csv"]),
    ],
)
def test_what_a_pattern_uploads(outputs: Path, tmp_path: Path, pattern: str, path: str | None, found: list[str]) -> None:
    assert upload(outputs, pattern, tmp_path / "box", path, AZ_ID="task7", NAME="ann", WD=str(outputs / "wd")) is None
    assert names(tmp_path / "box") == found
    assert (outputs / "fileuploaderr.txt").read_text() == ""
    assert len((outputs / "fileuploadout.txt").read_text().splitlines()) == len(found)


def test_no_match_is_no_error_and_is_said(outputs: Path, tmp_path: Path) -> None:
    assert upload(outputs, "none/*.csv", tmp_path / "box") is None
    assert not (tmp_path / "box").exists()
    assert "none/*.csv: no file matches" in (outputs / "fileuploadout.txt").read_text()


def test_uploads_are_put_to_a_web_server(web: WebServer, outputs: Path) -> None:
    assert upload(outputs, "**/*.csv", f"{web.url}/container?{SIGNATURE}", "run 1") is None
    assert web.put == {f"/container/run%201/{name}": f"wd/{name}".encode() for name in ("a.csv", "out/b.csv", "out/deep/c.csv")}
    assert all(path.endswith(SIGNATURE) and headers["X-Ms-Blob-Type"] == "BlockBlob" for path, headers in web.asked)
    assert "Abc123" not in (outputs / "fileuploadout.txt").read_text()


@pytest.mark.parametrize(
    ("url", "category", "code"),
    [
        ("{tmp}/none/box", "usererror", "FileUploadContainerNotFound"),
        ("{tmp}/file", "usererror", "FileUploadConflict"),
        ("{web}/denied?sig=Abc123def", "usererror", "FileUploadAccessDenied"),
        ("{web}/taken", "usererror", "FileUploadConflict"),
        ("http://127.0.0.1:1/", "servererror", "FileUploadMiscError"),
        ("nothing://x", "usererror", "FileUploadMiscError"),
    ],
)
def test_a_destination_that_takes_nothing(web: WebServer, outputs: Path, tmp_path: Path, url: str, category: str, code: str) -> None:
    (tmp_path / "file").touch()
    failure = upload(outputs, "a.csv", url.format(tmp=tmp_path, web=web.url))
    assert what(failure) == (category, code)
    assert failure is not None
    log = (outputs / "fileuploaderr.txt").read_text()
    assert failure.message in log
    assert "Abc123" not in log


def test_a_variable_that_is_not_set_is_an_error(outputs: Path, tmp_path: Path) -> None:
    failure = upload(outputs, "$TYPO/*.csv", tmp_path / "box")
    assert what(failure) == ("usererror", "FileUploadMiscError")
    assert "no environment variable TYPO, or it is secret" in str(failure)


@pytest.mark.parametrize(("pattern", "path"), [("$LONG$LONG", None), ("a.csv", "$LONG$LONG")])
def test_variables_do_not_make_a_path_without_end(outputs: Path, tmp_path: Path, pattern: str, path: str | None) -> None:
    failure = upload(outputs, pattern, tmp_path / "box", path, LONG="x/" * 40_000)
    assert what(failure) == ("usererror", "FileUploadMiscError")
    assert "'$LONG$LONG': with its variables in place it has 160000 characters" in str(failure)


# --- hostile folders ------------------------------------------------------------------------------------------


def test_what_leads_out_is_neither_written_nor_read(outputs: Path, tmp_path: Path) -> None:
    """The specs refuse such paths; this is for what got past them, or came after."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("outside")
    (outputs / "wd" / "link").symlink_to(tmp_path / "outside")
    (outputs / "wd" / "planted").symlink_to("/etc/shadow")
    source = str(outputs / "stdout.txt")
    assert what(run(outputs / "wd", Fetch(source, "../x"))) == ("usererror", "BlobDownloadMiscError")
    assert what(run(outputs / "wd", Fetch(source, str(tmp_path / "outside" / "x")))) == ("usererror", "BlobDownloadMiscError")
    assert what(run(outputs / "wd", Fetch(source, "link/x"))) == ("usererror", "ResourceFileCreateFailed")
    assert what(run(outputs / "wd", FetchAll(str(outputs), None, "link"))) == ("usererror", "ResourceFileCreateFailed")
    for pattern in ("planted", "link/secret", "../../outside/secret", "$OUT/secret"):
        failure = upload(outputs, pattern, tmp_path / "box", OUT=str(tmp_path / "outside"))
        assert what(failure) == ("usererror", "FileUploadMiscError"), pattern
        assert failure is not None
        assert failure.message in (outputs / "fileuploaderr.txt").read_text()
    assert upload(outputs, "a.csv", tmp_path / "box", "../escaped") is not None
    assert names(tmp_path / "outside") == ["secret"]
    assert names(tmp_path / "box") == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["box", "outside", "task"]


def test_with_a_wildcard_what_leads_out_is_passed_over_and_named(outputs: Path, tmp_path: Path) -> None:
    (outputs / "wd" / "planted.csv").symlink_to("/etc/shadow")
    os.mkfifo(outputs / "wd" / "fifo.csv")
    assert upload(outputs, "*.csv", tmp_path / "box") is None
    assert names(tmp_path / "box") == ["a.csv"]
    log = (outputs / "fileuploaderr.txt").read_text()
    assert "wd/planted.csv: matches *.csv and is not uploaded: it is a link that leads out of the task's folder" in log
    assert "wd/fifo.csv: matches *.csv and is not uploaded: it is no plain file" in log


def test_a_destination_may_be_full_of_links_too(outputs: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "out").symlink_to(tmp_path / "outside")
    assert what(upload(outputs, "*/b.csv", tmp_path / "box")) == ("usererror", "FileUploadConflict")
    assert names(tmp_path / "outside") == []


def test_the_logs_are_not_written_through_links(outputs: Path, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    for name in ("fileuploadout.txt", "fileuploaderr.txt"):
        (outputs / name).symlink_to(tmp_path / "victim")
    assert upload(outputs, "a.csv", tmp_path / "box") is None
    assert (tmp_path / "victim").read_text() == "mine"
    assert not (outputs / "fileuploadout.txt").is_symlink()


def test_a_log_that_cannot_be_written_is_a_failure(outputs: Path, tmp_path: Path) -> None:
    (outputs / "fileuploadout.txt").mkdir()
    assert what(upload(outputs, "a.csv", tmp_path / "box")) == ("servererror", "FileUploadMiscError")


# --- the disk, the user ---------------------------------------------------------------------------------------

FETCH_IN_A_PROCESS = (
    "import asyncio, sys; from pathlib import Path; from jobledger.executors.transfers import Fetch, FetchAll, Transfers\n"
    "failure = asyncio.run(Transfers().run([Fetch(sys.argv[1], 'in.bin')], folder=Path(sys.argv[2])))\n"
    "print(failure.category, failure.code, failure.message)"
)


def in_a_process(*prefix: str, source: Path, folder: Path) -> str:
    command = [*prefix, sys.executable, "-c", FETCH_IN_A_PROCESS, str(source), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs to mount a small disk")
def test_a_full_disk(wd: Path, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(BODY)
    mount = 'mount -t tmpfs -o size=500k none "$0" && "$@"; status=$?; ls -A "$0"; exit $status'
    told = in_a_process("unshare", "--mount", "sh", "-c", mount, str(wd), source=tmp_path / "large", folder=wd)
    assert told == "servererror DiskFull in.bin cannot be written: No space left on device; make room on the disk\n"


def test_a_file_larger_than_a_limit_of_the_user(wd: Path, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(BODY)
    told = in_a_process("sh", "-c", 'ulimit -f 100; exec "$@"', "sh", source=tmp_path / "large", folder=wd)
    assert told == "servererror ResourceFileWriteFailed in.bin cannot be written: File too large\n"
    assert names(wd) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "in").touch()
    assert what(run(tmp_path / "none", Fetch(str(tmp_path / "in"), "in"))) == ("servererror", "ResourceDirectoryCreateFailed")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
def test_files_are_given_to_the_tasks_user(wd: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("in")
    steps = [Fetch(str(tmp_path / "in"), "data/deep/in", 0o400)]
    assert asyncio.run(asyncio.wait_for(Transfers().run(steps, folder=wd, owner=(65534, 65533)), 60)) is None
    for name in ("data", "data/deep", "data/deep/in"):
        assert ((wd / name).stat().st_uid, (wd / name).stat().st_gid) == (65534, 65533)
    assert wd.stat().st_uid == 0


@pytest.mark.parametrize("pattern", ["**", "*/*", "closed/*", "**/a"])
def test_a_folder_that_may_not_be_read_is_not_taken_for_an_empty_one(pattern: str) -> None:
    """As `nobody` where the suite runs as root, to whom nothing is closed."""
    code = (
        "import os, sys; from jobledger.executors import beneath, patterns, trouble\n"
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "with beneath.top(sys.argv[1]) as base:\n"
        "    tree = patterns.Tree(sys.argv[1], base, most=9, depth=9, moved=lambda _: None)\n"
        "    try: print(tree.matches(tree.parts_of(sys.argv[2])))\n"
        "    except trouble.Trouble as found: print(found.kind, found.text)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        Path(folder, "wd").mkdir(0o755)
        Path(folder, "wd", "closed").mkdir(0)
        told = subprocess.run([sys.executable, "-c", code, folder, pattern], capture_output=True, text=True, timeout=60, check=True).stdout
    assert told == "denied the folder wd/closed cannot be read: Permission denied\n"


def test_what_may_not_be_read_or_written(tmp_path: Path) -> None:
    """Nothing is closed to root, so a root becomes nobody first; the interpreter may be where nobody can read, so not before it runs."""
    code = (
        "import os, sys; from jobledger.executors import destinations, sources, trouble\n"
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "def put(to):\n"
        "    with destinations.destination(sys.argv[1] + to, 1) as there: there.put('out', os.open(sys.argv[1] + '/in', 0), lambda _: None)\n"
        "works = [lambda: list(sources.content(sys.argv[1] + '/closed/in', 1)), lambda: list(sources.listing(sys.argv[1] + '/closed')),\n"
        "         lambda: put('/closed'), lambda: put('/open')]\n"
        "for work in works:\n"
        "    try: work()\n"
        "    except trouble.Trouble as found: print(found.kind, found.text)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        for name, mode in (("closed", 0), ("open", 0o555)):
            Path(folder, name).mkdir(mode)
        Path(folder, "in").touch()
        told = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    assert [line.partition(" ")[0] for line in told] == ["denied", "denied", "denied", "denied"]
    assert "may not be read by user" in told[0]
