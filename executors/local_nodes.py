"""The nodes' folders: made, emptied and removed, and the file that says which boot of a node this is.

1. `<node>/boot` is written last and durably, and removed first: where it can be read, the node is whole.
2. A node's boot id is that of the host and the node's incarnation: an engine's restart reports the same one, a reboot another.
3. Wiping follows no link out of the node.  Claims outlive a wipe as long as the node does: a late order must not launch again.
"""

import fcntl
import json
import os
import subprocess
from pathlib import Path
from typing import Final

import psutil
from attrs import frozen

from . import layout, supervisor
from .processes import LINUX, make_private, remove_tree
from .records import FOLDER

BOOT_FILE: Final = "boot"


@frozen(kw_only=True)
class Boot:
    """What a node's boot file says."""

    ledger: str
    incarnation: int
    host: str

    @property
    def id(self) -> str:
        return f"{self.host}/{self.incarnation}"


def host_boot_id() -> str:
    """What changes with each boot of this machine, and only then."""
    if LINUX:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    found = subprocess.run(["sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, text=True, check=False).stdout.strip()
    return found or f"boot-{int(psutil.boot_time())}"


def read_boot(node: Path) -> Boot | None:
    """The node's boot file; None where the node is not whole."""
    try:
        data = json.loads((node / BOOT_FILE).read_text())
        return Boot(ledger=data["ledger"], incarnation=data["incarnation"], host=data["host"])
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def boot(node: Path, this: Boot, *, wipe: bool) -> None:
    """Make the node whole, empty if `wipe`.  Nothing of it may run.  Raises OSError."""
    (node / BOOT_FILE).unlink(missing_ok=True)
    if wipe and node.exists():
        for entry in node.iterdir():
            if entry.name != FOLDER:
                _remove(entry)
    make_folders(node)
    _write_durably(node / BOOT_FILE, json.dumps({"ledger": this.ledger, "incarnation": this.incarnation, "host": this.host}))


def make_folders(node: Path) -> None:
    """Make the node's folders where they are missing.  Raises OSError."""
    for name in layout.NODE_FOLDERS:
        make_private(node / name)


def retire(node: Path, *, wipe: bool) -> None:
    """Take the node down; with `wipe` all its files go.  Nothing of it may run.  Raises OSError."""
    (node / BOOT_FILE).unlink(missing_ok=True)
    if wipe:
        remove_tree(node)


def supervised(root: Path, ledger: str) -> bool:
    """Whether a supervisor of that ledger lives below the root."""
    try:
        lock = os.open(root / supervisor.CONTROL / f"{ledger}.lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        path.unlink()


def _write_durably(path: Path, text: str) -> None:
    """All of `text` or nothing is at `path`, whenever the power goes."""
    fresh = path.with_name(path.name + ".new")
    with fresh.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
