"""Who holds a ledger's lease, as a name that tells on the same machine whether that process still lives."""

import os
import socket

import psutil

from .core.ports import Lease


def own_name() -> str:
    """`host/pid/start`, the start in hundredths of a second since the epoch."""
    return f"{socket.gethostname()}/{os.getpid()}/{_start(psutil.Process())}"


def certainly_dead(lease: Lease) -> bool:
    """Whether the owner was a process of this machine that is gone: then nobody has to wait for the lease to run out."""
    host, _, rest = lease.owner.rpartition("/")[0].partition("/")
    pid, start = rest, lease.owner.rpartition("/")[2]
    if host != socket.gethostname() or not pid.isdigit() or not start.isdigit():
        return False
    try:
        process = psutil.Process(int(pid))
        return process.status() == psutil.STATUS_ZOMBIE or abs(_start(process) - int(start)) > 100
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def _start(process: psutil.Process) -> int:
    return round(process.create_time() * 100)
