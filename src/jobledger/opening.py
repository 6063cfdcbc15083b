"""Opening a ledger: taking its lease, and refusing the ledgers that an engine must not drive."""

from pathlib import Path
from typing import Final

from .core.errors import LedgerBusy, RequestRefused
from .core.events import EngineStarted
from .core.ids import SECOND, Duration, Micros
from .core.ports import EventStore, Lease
from .core.world import World
from .owner import certainly_dead, describe
from .surroundings import Surroundings

UNCONTESTED_TTL: Final = Duration(10_000 * 366 * 24 * 3_600 * SECOND)
"""How long a lease lasts that nobody else can want: longer than anything runs."""


def refuse_other_root(world: World, root: Path) -> None:
    """Programs that run below the root of the last engine would not be found below another one, and their tasks run a second time.

    Raises `RequestRefused`.  A root that is gone was moved or deleted, and nothing can be found there.
    """
    before = Path(world.engine_root)
    if not world.engine_root or not any(node.booted_at is not None for node in world.nodes.values()):
        return
    if before.is_dir() and before.resolve() != Path(root_text(root)).resolve():
        text = f"root: the nodes of this ledger lie below {before}, and programs may run there still; name that folder, or move it"
        raise RequestRefused("InvalidPropertyValue", text)


def refuse_other_purpose(world: World, dry_run: str) -> None:
    """Real work and dry runs never share a ledger.  Raises `RequestRefused`."""
    if world.engine_epoch and bool(world.dry_run) != bool(dry_run):
        kind = "a dry run's, and nothing real may be recorded there" if world.dry_run else "one of real work, and no dry run may be recorded there"
        raise RequestRefused("InvalidPropertyValue", f"ledger: this ledger is {kind}; name another one")


def is_dry_run(store: EventStore) -> bool:
    """Whether a ledger is a dry run's: its first event says so."""
    first = next(store.read(until=1), None)
    return first is not None and isinstance(first.event, EngineStarted) and bool(first.event.dry_run)


def root_text(root: Path) -> str:
    """The root as the ledger can hold it, whatever bytes its name has."""
    return str(root.absolute()).encode(errors="replace").decode()


def take_lease(store: EventStore, around: Surroundings) -> Lease:
    """The ledger's lease, at once where its owner is known to be dead.  Raises `LedgerBusy`."""
    now, ttl = Micros(around.clock()), around.lease_ttl or UNCONTESTED_TTL
    try:
        return store.acquire_lease(around.owner, now=now, ttl=ttl)
    except LedgerBusy:
        current = store.current_lease()
        if current is None or not certainly_dead(current):
            holder = "another engine" if current is None else f"an engine ({describe(current)})"
            raise LedgerBusy(f"{holder} drives this ledger already; ask it (`jobledger submit`, `terminate`, ...) or stop it first") from None
        store.release_lease(current)
        return store.acquire_lease(around.owner, now=now, ttl=ttl)
