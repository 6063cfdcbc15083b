"""What an engine takes from the machine that it runs on: the time, and names for itself.

Everything else that an engine does follows from its ledger, its executors' reports and what it is asked.  So an engine in surroundings of
one's own, on an event loop of one's own (`virtual`), does the same thing each time: that is what dry runs and the verification kit are made of.
"""

import os
import socket
import time
from collections.abc import Callable
from typing import Final

from attrs import frozen

from .core.ids import SECOND, Duration
from .needs import boot_of_host
from .owner import new_name

LEASE_TTL: Final = Duration(15 * SECOND)
"""How long a lease lasts without being renewed: what another machine waits before it takes over."""

INBOX_POLL_S: Final = 0.05
"""How often the ledger's inbox is looked at for other processes' requests."""

Clock = Callable[[], int]


def wall_clock() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1_000


def random_identity() -> str:
    """A name that no other request has."""
    return os.urandom(6).hex()


@frozen(kw_only=True)
class Surroundings:
    """`here` gives those that an engine has by itself.

    `clock` tells microseconds since the epoch.  `host`, `pid` and `boot_id` go into the ledger with the engine's start, `owner` into its lease.
    `lease_ttl` None is for a ledger that nobody else can want, and `inbox_poll_s` None for one that nobody else asks anything of.
    `dry_run` says what a dry run was made from; it marks its ledger for good, and is empty for real work.
    """

    clock: Clock = wall_clock
    host: str
    pid: int
    boot_id: str
    owner: str
    lease_ttl: Duration | None = LEASE_TTL
    inbox_poll_s: float | None = INBOX_POLL_S
    new_identity: Callable[[], str] = random_identity
    dry_run: str = ""


def here(*, clock: Clock = wall_clock) -> Surroundings:
    """This process on this machine; `clock` for a time of one's own."""
    return Surroundings(clock=clock, host=socket.gethostname(), pid=os.getpid(), boot_id=boot_of_host(), owner=new_name())
