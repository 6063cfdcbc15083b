"""Who holds a ledger's lease, as a name that tells on the same machine whether that process still lives."""

import os
import socket

import psutil

from .core.ports import Lease


def new_name() -> str:
    """`host/pid/start/engine`: the start in hundredths of a second since the epoch, and a part of its own for each engine of a process."""
    return f"{socket.gethostname()}/{os.getpid()}/{_start(psutil.Process())}/{os.urandom(3).hex()}"


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
