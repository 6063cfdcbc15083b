"""Who holds a ledger's lease, as a name that tells on the same machine whether that process still lives."""

import os
import re
import socket
from typing import Final

import psutil

from .core.ports import Lease
from .executors import processes
from .executors.local_nodes import host_boot_id

_START: Final = re.compile(r"[^/]{1,8}-\d+")


def new_name() -> str:
    """`host/pid/start/engine`: when the process started, and a part of its own for each engine of a process."""
    row = processes.look_up(os.getpid())
    start = "unknown" if row is None else _start(row)
    return f"{socket.gethostname()}/{os.getpid()}/{start}/{os.urandom(3).hex()}"


def describe(lease: Lease) -> str:
    """The owner for people: process and machine."""
    parts = lease.owner.split("/")
    return f"process {parts[1]} on {parts[0]}" if len(parts) == 4 else lease.owner


def certainly_dead(lease: Lease) -> bool:
    """Whether the owner was a process of this machine that is gone: then nobody has to wait for the lease to run out."""
    parts = lease.owner.split("/")
    if len(parts) != 4:
        return False
    host, pid, start, _ = parts
    if host != socket.gethostname() or not pid.isdigit() or not _START.fullmatch(start):
        return False
    row = processes.look_up(int(pid))
    if row is None:
        return not psutil.pid_exists(int(pid))  # It may be there and hidden from us.
    return row.zombie or _start(row) != start


def _start(row: processes.Row) -> str:
    """When a process started, as `boot-time` with the time as `processes` counts it.

    On Linux that is since the machine's boot, and not since the epoch: setting the clock must not make a living process another one.
    """
    return f"{host_boot_id()[:8]}-{row.start}"
