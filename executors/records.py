"""The record of an execution: one append-only file of JSON lines, `<node>/executions/<ledger id>.<execution>`.

1. That the file exists is the claim: it is created with O_EXCL, so an execution is launched at most once.
2. Lines follow as things happen: `claimed`, `started`, then one of `exited` (and `drained`, when nothing of its process group
   is left), `not_started` or `lost`.
3. A line that is torn (no newline, or not JSON) counts as not written.
4. Lines are written without fsync while an engine listens, since its ledger is the durable record; else each end is synced.
   That is safe against power cuts either way: a cut changes the host's boot id, and all that ran in an earlier boot and has no
   end on record is known to run no more.
"""

import json
import os
from typing import Any

from .processes import Span

FOLDER = "executions"

_encode = json.JSONEncoder(separators=(",", ":")).encode


class Facts:
    """What a record says.  `exited` has code, signal, stopped and wall_us."""

    __slots__ = ("boot", "drained", "exited", "lost", "not_started", "pid", "span")

    def __init__(self) -> None:
        self.pid: int | None = None
        self.span: Span = (0, 0)
        self.boot: str | None = None
        self.exited: dict[str, Any] | None = None
        self.drained: list[int] | None = None
        self.not_started: dict[str, Any] | None = None
        self.lost: str | None = None


def claim(path: str) -> int:
    """Create the record and return its descriptor.  Raises FileExistsError where the execution was claimed before."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)


def append(path: str, lines: bytes, *, sync: bool) -> None:
    """Append whole lines to an existing record.  Raises OSError, FileNotFoundError where the node was wiped."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        write(descriptor, lines)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(descriptor: int, lines: bytes) -> None:
    """Write all of `lines`.  Raises OSError: a full disk may leave a torn line."""
    while lines:
        lines = lines[os.write(descriptor, lines) :]


def to_line(fields: dict[str, Any]) -> bytes:
    """One line of a record, or one message."""
    return _encode(fields).encode() + b"\n"


def line(**fields: object) -> bytes:
    return to_line(fields)


def read(path: str, unwritten: bytes = b"") -> Facts | None:
    """What the record says (and the lines that could not be appended to it), None where the execution was never claimed."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        parts = []
        while part := os.read(descriptor, 65536):
            parts.append(part)
    finally:
        os.close(descriptor)
    facts = Facts()
    for text in (b"".join(parts) + unwritten).split(b"\n")[:-1]:
        try:
            fields = json.loads(text)
        except ValueError:
            continue
        _take(facts, fields)
    return facts


def _take(facts: Facts, fields: dict[str, Any]) -> None:
    if "claimed" in fields:
        facts.boot = fields["boot"]
    elif "started" in fields:
        first, last = fields["span"]
        facts.pid, facts.span, facts.boot = fields["started"], (first, last), fields["boot"]
    elif "exited" in fields:
        facts.exited = {name: fields[name] for name in ("code", "signal", "stopped", "wall_us")}
    elif "drained" in fields:
        facts.drained = fields["drained"]
    elif "not_started" in fields:
        facts.not_started = fields["not_started"]
    elif "lost" in fields:
        facts.lost = fields["lost"]
