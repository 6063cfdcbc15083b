"""Ask the engine that drives a ledger, from any process that can open the ledger.

The ledger's inbox records who asked and what was answered; of secrets it has the digests only.  A request that no engine takes in time is
taken back, so that nothing is decided behind the asker's back later.
"""

import time
from collections.abc import Sequence
from typing import Final
from uuid import uuid4

from .core.errors import LedgerBusy, RequestRefused
from .core.ids import Micros
from .core.ports import EventStore, InboxReply, InboxRequest, Lease
from .core.requests import Request
from .eventstore import encode_request
from .owner import certainly_dead, describe
from .sealing import SecretStore
from .surroundings import wall_clock

_POLL_S: Final = 0.02

HOLD_MARGIN_S: Final = 60.0
"""How much longer than the wait for an answer the values of a request's secrets are held: an answer may be late, and then nobody lets go."""


def ask(store: EventStore, request: Request, *, actor: str, timeout_s: float) -> InboxReply:
    """What the engine decided; `accepted` tells whether it granted the request.

    Raises `RequestRefused` with the code `NoEngine` where no engine drives the ledger (nothing was asked), and `LedgerBusy` where it did
    not answer within `timeout_s` seconds (the request was taken back).  Its secrets are sealed here.
    """
    lease = _lease_of_who_answers(store)
    (reply,) = _asked(store, [request], actor, timeout_s)
    if reply is None:
        raise LedgerBusy(f"the engine ({describe(lease)}) did not answer within {timeout_s:g} s; the request was taken back")
    return reply


def ask_all(store: EventStore, requests: Sequence[Request], *, actor: str, timeout_s: float) -> list[InboxReply | None]:
    """What the engine decided about each of them, which it does one by one, in order; None where it did not answer in time and it was taken back.

    Raises `RequestRefused` with the code `NoEngine` where no engine drives the ledger (nothing was asked).
    """
    _lease_of_who_answers(store)
    return _asked(store, requests, actor, timeout_s)


def _lease_of_who_answers(store: EventStore) -> Lease:
    lease = store.current_lease()
    if lease is None or lease.expires_at < wall_clock() or certainly_dead(lease):
        raise RequestRefused("NoEngine", "no engine drives this ledger, so nothing was asked")
    return lease


def _asked(store: EventStore, requests: Sequence[Request], actor: str, timeout_s: float) -> list[InboxReply | None]:
    """All are put before the first is waited for, so that they share the engine's looks at its inbox."""
    end = time.monotonic() + timeout_s
    waiting: dict[str, bool] = {}
    replies: list[InboxReply | None] = []
    with SecretStore.of(store) as secrets:
        try:
            for request in requests:
                identity = uuid4().hex[:12]
                sealed = secrets.seal(request, holder=identity, hold_s=timeout_s + HOLD_MARGIN_S)
                kind, data = encode_request(sealed)
                store.put_request(InboxRequest(id=identity, kind=kind, data=data, actor=actor, reason=None, submitted_at=Micros(wall_clock())))
                waiting[identity] = sealed is not request
            for identity in list(waiting):
                reply = _wait(store, identity, end)
                if reply is None and not store.withdraw_request(identity):
                    reply = store.reply_to(identity)  # It was answered in the very moment in which we gave up.
                replies.append(reply)
                if waiting.pop(identity):
                    secrets.let_go(identity)
        finally:
            for identity in waiting:
                store.withdraw_request(identity)
    return replies


def _wait(store: EventStore, identity: str, end: float) -> InboxReply | None:
    while (reply := store.reply_to(identity)) is None and time.monotonic() < end:
        time.sleep(_POLL_S)  # A refusal appends nothing, so there is nothing in the log to wait for.
    return reply
