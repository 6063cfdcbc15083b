"""Transfers through fsspec: to and from a real FTP server, and where it is not installed."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from jobledger.core.failure import FailureInfo
from jobledger.executors.transfers import Fetch, FetchAll, Step, Transfers, Unpack, Upload

pytestmark = pytest.mark.skipif(not (find_spec("fsspec") and find_spec("pyftpdlib")), reason="needs fsspec and pyftpdlib, of the dev group")

PASSWORD = "hunter2secret"  # noqa: S105 - of a server that lives for one test


@pytest.fixture
def ftp(tmp_path: Path) -> Iterator[str]:
    """The address of a server whose files lie in `<tmp_path>/served`."""
    served = tmp_path / "served"
    served.mkdir()
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("serve_ftp.py")), str(served), PASSWORD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"ftp://ann:{PASSWORD}@127.0.0.1:{int(server.stdout.readline())}"
        server.communicate(timeout=20)


@pytest.fixture
def task(tmp_path: Path) -> Path:
    folder = tmp_path / "task"
    (folder / "wd").mkdir(parents=True)
    return folder


def run(task: Path, step: Step) -> FailureInfo | None:
    return asyncio.run(asyncio.wait_for(Transfers(stall_s=30, tries=1).run([step], folder=task / "wd", log=task), 60))


def names(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def code(failure: FailureInfo | None) -> str:
    assert failure is not None
    assert PASSWORD not in str(failure)
    assert "Traceback" not in str(failure)
    return failure.code


def test_files_are_fetched_one_and_all(ftp: str, task: Path, tmp_path: Path) -> None:
    (tmp_path / "served" / "data" / "sub").mkdir(parents=True)
    (tmp_path / "served" / "data" / "1.txt").write_text("one")
    (tmp_path / "served" / "data" / "sub" / "2.txt").write_text("two")
    assert run(task, Fetch(f"{ftp}/data/1.txt", "in/1")) is None
    assert run(task, FetchAll(f"{ftp}/data", "sub/", "all", 0o600)) is None
    assert names(task / "wd") == {"in/1": "one", "all/sub/2.txt": "two"}
    assert (task / "wd" / "all" / "sub" / "2.txt").stat().st_mode & 0o777 == 0o600


def test_files_are_uploaded_below_folders_that_are_made(ftp: str, task: Path, tmp_path: Path) -> None:
    (task / "wd" / "out" / "deep").mkdir(parents=True)
    (task / "wd" / "out" / "1.txt").write_text("one")
    (task / "wd" / "out" / "deep" / "2.txt").write_text("two")
    (tmp_path / "served" / "box").mkdir()
    assert run(task, Upload(str(task), "out/**/*.txt", f"{ftp}/box", "job 1/$ID", {"ID": "t7"})) is None
    assert names(tmp_path / "served") == {"box/job 1/t7/1.txt": "one", "box/job 1/t7/deep/2.txt": "two"}
    assert PASSWORD not in (task / "fileuploadout.txt").read_text()


def test_a_package_comes_through_fsspec_too(ftp: str, task: Path, tmp_path: Path) -> None:
    (tmp_path / "served" / "tool.zip").write_text("no zip")
    assert code(run(task, Unpack(f"{ftp}/tool.zip", None, str(tmp_path / "tool")))) == "ApplicationPackageError"


def test_what_is_not_there(ftp: str, task: Path) -> None:
    assert code(run(task, Fetch(f"{ftp}/none.txt", "in"))) == "BlobNotFound"
    assert code(run(task, FetchAll(f"{ftp}/none"))) == "ResourceContainerNotFound"


def test_an_error_that_only_the_library_knows(ftp: str, task: Path) -> None:
    """ftplib's errors are no errors of the system: they end the process, and their text comes back without the password."""
    failure = run(task, Fetch(ftp.replace(PASSWORD, "wrong") + "/none.txt", "in"))
    assert code(failure) == "BlobDownloadMiscError"
    assert "530" in str(failure)
    assert "wrong" not in str(failure)
    (task / "wd" / "a").touch()
    failure = run(task, Upload(str(task), "a", ftp.replace("ann", "reader")))
    assert code(failure) == "FileUploadMiscError"
    assert "550" in str(failure)


def test_a_library_that_hangs_is_ended(task: Path) -> None:
    """The server takes the connection and says nothing, and ftplib waits for it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"ftp://127.0.0.1:{silent.getsockname()[1]}/box"
        run = Transfers(stall_s=2, tries=1).run([FetchAll(url)], folder=task / "wd")
        assert code(asyncio.run(asyncio.wait_for(run, 60))) == "ResourceContainerListTimedOut"


def test_the_extra_is_named_where_fsspec_is_not_installed(task: Path) -> None:
    """The process as it is with nothing but the standard library (-S) in reach."""
    source = (
        "import asyncio, json, subprocess, sys; from jobledger.executors import transfer; from jobledger.executors.transfers import Fetch, Transfers\n"
        "from pathlib import Path\n"
        "document = Transfers()._document([Fetch('s3://bucket/key', 'in')], Path(sys.argv[1]), None, None)\n"
        "with subprocess.Popen([sys.executable, '-I', '-S', transfer.__file__], stdin=-1, stdout=-1) as child:\n"
        "    child.stdin.write(json.dumps(document).encode() + b'\\n'); child.stdin.flush()\n"
        "    print(child.stdout.readlines()[-1].decode())\n"
    )
    done = subprocess.run([sys.executable, "-c", source, str(task / "wd")], capture_output=True, text=True, timeout=60, check=True)
    assert '"code": "BlobDownloadMiscError"' in done.stdout
    assert "pip install 'jobledger[fsspec]'" in done.stdout


def test_a_scheme_whose_package_is_missing(task: Path) -> None:
    failure = run(task, Fetch("hdfs://host/key?sig=Abc123def", "in"))
    assert code(failure) == "BlobDownloadMiscError"
    assert "Abc123def" not in str(failure)
