"""What every store decides alike, as functions without a store: who may append, and which requests are open.

One engine drives a ledger, and one that was replaced can no longer write.  A lease's epoch only ever grows, also when the
lease is given up, because it is what tells an engine that woke from a long pause that its time is over.
"""

import json
import secrets
from typing import Any, Final

from attrs import evolve

from ..core.errors import AppendConflict, LeaseLost, LedgerBusy, StoreError
from ..core.ids import SECOND, Duration, Micros
from ..core.ports import InboxRequest, Lease
from ..core.secrecy import is_sealed

_MARKED: Final = '"secret": true'
"""How a secret setting shows in JSON text; most requests have none, and are looked at no further."""


def new_ledger_id() -> str:
    """Eight hexadecimal digits at random: enough to tell apart the ledgers that meet on one machine or node."""
    return secrets.token_hex(4)


def grant(current: Lease | None, epoch: int, owner: str, now: Micros, ttl: Duration) -> Lease:
    """The lease that `owner` gets, where `epoch` was the last one handed out.  Raises `LedgerBusy`."""
    if current is not None and current.owner != owner and current.expires_at > now:
        left_s = (current.expires_at - now) / SECOND
        raise LedgerBusy(f"the ledger is driven by {current.owner}, whose lease ends in {left_s:.1f} s")
    return Lease(owner=owner, epoch=epoch + 1, expires_at=Micros(now + ttl))


def renew(current: Lease | None, lease: Lease, now: Micros, ttl: Duration) -> Lease:
    """`lease` with a later end.  Raises `LeaseLost`."""
    check(current, lease)
    return evolve(lease, expires_at=Micros(now + ttl))


def check(current: Lease | None, lease: Lease) -> None:
    """Nothing where `lease` is still the one in force; raises `LeaseLost` otherwise.

    That its time is over does not matter until somebody takes it: nobody else can have written.
    """
    if not in_force(current, lease):
        holder = "nobody holds it now" if current is None else f"{current.owner} holds it with epoch {current.epoch}"
        raise LeaseLost(f"{lease.owner} lost the lease with epoch {lease.epoch}: {holder}")


def in_force(current: Lease | None, lease: Lease) -> bool:
    return current is not None and current.epoch == lease.epoch and current.owner == lease.owner


def letter_text(request: InboxRequest) -> str:
    """A request's data as the JSON text that an inbox keeps.  Raises `StoreError` for an unsealed secret: what once lay there was readable."""
    text = json.dumps(request.data)
    if _MARKED in text and _has_unsealed(request.data):
        raise StoreError(f"request {request.id} cannot be put into the inbox: a secret in it is not sealed")
    return text


def _has_unsealed(data: Any) -> bool:
    if isinstance(data, dict):
        if data.get("secret") is True and "name" in data and not is_sealed(str(data.get("value", ""))):
            return True
        return any(_has_unsealed(value) for value in data.values())
    return isinstance(data, (list, tuple)) and any(map(_has_unsealed, data))


def already_put(request: str) -> StoreError:
    return StoreError(f"request {request} is already in the inbox: every request needs an id of its own")


def not_open(request: str) -> AppendConflict:
    """For a reply to a request that was withdrawn or answered since it was read: what was decided for it must not be recorded either."""
    return AppendConflict(f"request {request} was withdrawn or answered since it was read")
