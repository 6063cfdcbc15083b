"""The transfer: a short-lived process that fetches, unpacks and uploads files for one execution.

Started by its path as `python -I transfer.py`.  On stdin comes one JSON document, the steps; stdin then stays open as long as it is to live.
On stdout go JSON objects, one a line: `{"step", "phase", "bytes"}` as things move, and at last `{"done"}` or
`{"failed": {"step", "category", "code", "message"}}`.

1. It ends at once when stdin ends: whoever started it is gone, or wants it gone.
2. While anything moves it says so; who hears nothing for long may kill it.
3. It imports the standard library only, and fsspec for an address whose scheme is neither http, https nor file; never jobledger: it
   reaches its neighbours through a bare package of its own.  Bounds come with the document.
4. Nothing it says holds a password or a signature of an address (see `urls`).  What it did not expect ends it with a traceback on
   stderr, which may: whoever shows that has to hide them.

Reading order: `beneath` (files below a folder), `sources`, `web`, `destinations`, `patterns`, `packages`.
"""

# ruff: noqa: PTH100, PTH120

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

if __name__ == "__main__":
    __package__ = "jobledger_transfer"
    sys.modules[__package__] = bare = type(sys)(__package__)
    bare.__path__ = [os.path.dirname(os.path.abspath(__file__))]

from . import beneath, packages
from .destinations import Destination, destination
from .patterns import Parts, Tree, expanded, has_wildcard
from .sources import Listed, content, listing
from .trouble import CONFLICT, CREATE, DENIED, FAILED, FETCHING, LISTING, UNPACKING, UPLOADING, WRONG, Trouble, category_of, code_of, from_os, reason
from .urls import redactor, shown

EXIT_ORPHANED = 4
MODE = 0o770
"""Azure Batch's mode for a resource file that names none."""
TELLING_S = 0.25
"""At most this often it is told that something moves."""
MESSAGE_LENGTH_MAX = 2000
"""Of a failure's message: what a store says may be a page, and who reads our lines takes no line without end."""
PHASES = {"fetch": FETCHING, "fetch_all": FETCHING, "unpack": UNPACKING, "upload": UPLOADING}
SUBJECTS = {"fetch": "to", "fetch_all": "url", "unpack": "url", "upload": "pattern"}


class Teller:
    """Says how far things are."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._bytes = 0
        self._told_at = 0.0
        self._step = 0
        self._phase = FETCHING

    def moved(self, count: int) -> None:
        """So many bytes more; 0 is a sign of life."""
        self._bytes += count
        now = time.monotonic()
        if now - self._told_at >= TELLING_S:
            self._told_at = now
            self.tell({"step": self._step, "phase": self._phase, "bytes": self._bytes})

    def begin(self, step: int, phase: str) -> None:
        self._step, self._phase = step, phase
        self._told_at = 0.0
        self.moved(0)

    def tell(self, message: dict[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\n"
        while line:
            line = line[os.write(self._descriptor, line) :]


class Log:
    """What was uploaded and what was not, for the user: fileuploadout.txt and fileuploaderr.txt in the task's folder."""

    def __init__(self, folder: str, owner: beneath.Owner | None, hide: Callable[[str], str]) -> None:
        self._hide = hide
        with beneath.top(folder) as top:
            self._out, self._err = (_fresh(top, name, owner) for name in ("fileuploadout.txt", "fileuploaderr.txt"))

    def out(self, text: str) -> None:
        self._write(self._out, text)

    def err(self, text: str) -> None:
        self._write(self._err, text)

    def _write(self, file: int, text: str) -> None:
        line = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {self._hide(text)}\n"
        beneath.write_all(file, line.encode("utf-8", "backslashreplace"), "the upload's log")


def _fresh(folder: int, name: str, owner: beneath.Owner | None) -> int:
    """A new file of ours: what a task left under that name, a link too, is taken away and not written to.  Raises Trouble."""
    try:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
        if owner is not None:
            os.fchown(file, *owner)
    except OSError as error:
        raise from_os(CREATE, f"{name} cannot be created", error) from None
    return file


class Run:
    """The steps of one document."""

    def __init__(self, document: dict[str, Any], teller: Teller) -> None:
        self._steps: list[dict[str, Any]] = document["steps"]
        self._folder: str = document["folder"]
        self._log_folder: str | None = document["log"]
        self._owner: beneath.Owner | None = tuple(document["owner"]) if document["owner"] else None
        self._timeout_s: float = document["timeout_s"]
        self._tries: int = document["tries"]
        self._pause_s: float = document["pause_s"]
        self._limits: dict[str, int] = document["limits"]
        self._teller = teller
        self._hide = redactor(step["url"] for step in self._steps)
        self._log: Log | None = None

    def __call__(self) -> dict[str, Any]:
        """Take every step; the last line to say."""
        works = {"fetch": self._fetch, "fetch_all": self._fetch_all, "unpack": self._unpack, "upload": self._upload}
        for number, step in enumerate(self._steps):
            self._teller.begin(number, PHASES[step["op"]])
            try:
                works[step["op"]](number, step)
            except Trouble as trouble:
                return {"failed": self._failure(number, step, trouble.phase or PHASES[step["op"]], trouble)}
        return {"done": True}

    def _failure(self, number: int, step: dict[str, Any], phase: str, trouble: Trouble) -> dict[str, Any]:
        subject = shown(step["url"]) if SUBJECTS[step["op"]] == "url" else step[SUBJECTS[step["op"]]]
        text = trouble.text if trouble.text.startswith((repr(subject), f"{subject} ", f"{subject}:")) else f"{subject}: {trouble.text}"
        if self._log is not None and phase == UPLOADING:
            self._log.err(text)
        hidden = self._hide(text)
        return {"step": number, "category": category_of(trouble.kind), "code": code_of(phase, trouble.kind), "message": hidden[:MESSAGE_LENGTH_MAX]}

    # steps

    def _fetch(self, _: int, step: dict[str, Any]) -> None:
        with beneath.top(self._folder) as top:
            self._write(top, step["to"], lambda: content(step["url"], self._timeout_s), step["mode"])

    def _fetch_all(self, number: int, step: dict[str, Any]) -> None:
        """List all before anything is fetched: too many files are refused whole."""
        self._teller.begin(number, LISTING)
        try:
            found = self._list(step["url"], step["prefix"] or "")
        except Trouble as trouble:
            trouble.phase = LISTING
            raise
        self._teller.begin(number, FETCHING)
        target = "/".join(beneath.parts_of(step["to"] or ""))
        with beneath.top(self._folder) as top:
            for name, source in found:
                self._write(top, f"{target}/{name}" if target else name, source, step["mode"])

    def _list(self, url: str, prefix: str) -> list[Listed]:
        found = []
        for name, source in listing(url):
            self._teller.moved(0)
            if name.startswith(prefix):
                _check_listed(name)
                found.append((name, source))
            if len(found) > self._limits["container_files"]:
                raise Trouble(WRONG, f"more than {self._limits['container_files']} files are there; fetch an archive of them, or use a prefix")
        return found

    def _unpack(self, _: int, step: dict[str, Any]) -> None:
        def deploy() -> None:
            packages.deploy(step["to"], step["sha256"], lambda: content(step["url"], self._timeout_s), self._limits, self._teller.moved)

        self._try(deploy)

    def _upload(self, _: int, step: dict[str, Any]) -> None:
        if self._log is None and self._log_folder is not None:
            self._log = Log(self._log_folder, self._owner, self._hide)
        pattern = expanded(step["pattern"], step["environment"])
        path = expanded(step["path"], step["environment"]) if step["path"] else ""
        with beneath.top(step["folder"]) as base:
            tree = Tree(step["folder"], base, most=self._limits["output_files"], depth=self._limits["folder_depth"], moved=self._teller.moved)
            parts = tree.parts_of(pattern)
            found = tree.matches(parts)
            self._tell_skipped(tree, pattern)
            if not found:
                self._say(f"{pattern}: no file matches, and so nothing is uploaded")
                return
            with ExitStack() as stack:
                to = stack.enter_context(destination(step["url"], self._timeout_s))
                for names in found:
                    self._put(tree, names, _name_there(names, parts, path), to, step["url"])

    # parts of steps

    def _write(self, top: int, to: str, source: Callable[[], Iterator[bytes]], mode: int | None) -> None:
        def write() -> None:
            beneath.write(top, to, source(), self._teller.moved, mode=MODE if mode is None else mode, owner=self._owner)

        self._try(write)

    def _put(self, tree: Tree, names: Parts, there: str, to: Destination, url: str) -> None:
        here = "/".join(names)
        try:
            file = tree.open(names)
        except OSError as error:
            kind = DENIED if isinstance(error, PermissionError) else FAILED
            raise Trouble(kind, f"{here} cannot be read: {reason(error)}") from None
        except ValueError as error:
            raise Trouble(WRONG, f"{here} is not read: {error}") from None
        try:

            def put() -> None:
                os.lseek(file, 0, os.SEEK_SET)
                to.put(there, file, self._teller.moved)

            self._try(put)
            self._say(f"{here}: uploaded to {shown(url)} as {there}, {os.fstat(file).st_size} bytes")
        finally:
            os.close(file)

    def _try(self, work: Callable[[], None]) -> None:
        """Do it, again after a pause where that may help.  Raises Trouble."""
        for number in range(self._tries - 1):
            try:
                return work()
            except Trouble as trouble:
                if not trouble.again:
                    raise
            self._teller.moved(0)
            time.sleep(self._pause_s * 2**number)
            self._teller.moved(0)
        return work()

    def _tell_skipped(self, tree: Tree, pattern: str) -> None:
        """Say what matched and is not read; where exactly that was named, it is an error."""
        for name, why in tree.skipped:
            if not has_wildcard(pattern):
                raise Trouble(WRONG, f"{name} is not read: {why}")
            if self._log is not None:
                self._log.err(f"{name}: matches {pattern} and is not uploaded: {why}")

    def _say(self, text: str) -> None:
        if self._log is not None:
            self._log.out(text)


def _check_listed(name: str) -> None:
    """Refuse a name of a container that would lead elsewhere, or to where another one leads.  Raises Trouble."""
    if name.startswith("/") or "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise Trouble(CONFLICT, f"the container has a file {name!r}, which is no name for a file below a folder; give it another, or use a prefix")


def _name_there(names: Parts, parts: Parts, path: str) -> str:
    """What a file is called at its destination (semantics section 3.6); Trouble for a path that leads out."""
    folder = beneath.parts_of(path)
    literal = next((number for number, part in enumerate(parts) if has_wildcard(part)), None)
    if literal is None:
        return "/".join(folder or names[-1:])
    return "/".join([*folder, *names[literal:]])


def watch() -> None:
    """End when stdin ends (rule 1); what is half written goes first."""
    while os.read(0, 4096):
        pass
    beneath.remove_unfinished()
    os._exit(EXIT_ORPHANED)


def main() -> None:
    """Read the document, take its steps, and say how that went."""
    out = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints is no message of ours
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        os._exit(EXIT_ORPHANED)
    threading.Thread(target=watch, daemon=True).start()
    teller = Teller(out)
    teller.tell(Run(json.loads(line), teller)())
    os._exit(0)  # libraries may have threads of their own, and nobody waits for those


if __name__ == "__main__":
    main()
