"""The ledger in memory: a store like the others, for tests, dry runs and embedders who need no file.

It passes the same conformance suite.  All methods may be called from any thread; a batch is either all there or not there.
"""

import json
import threading
from collections.abc import Iterator, Sequence

from attrs import evolve, field, frozen

from ..core.errors import AppendConflict, StoreError
from ..core.ids import Duration, Micros
from ..core.ports import Head, InboxReply, InboxRequest, Lease, NewEvent, RecordedEvent
from . import rules
from .chain import Row, genesis, recorded, seal
from .codec import default_codec

_CHUNK = 1_000
"""Events that a read takes at a time, so that it never holds the lock for long."""


@frozen
class _Letter:
    request: InboxRequest
    reply: InboxReply | None = field(default=None)


class MemoryStore:
    """One ledger that lives as long as this object."""

    def __init__(self, *, ledger_id: str | None = None) -> None:
        self._ledger_id = ledger_id or rules.new_ledger_id()
        self._changed = threading.Condition()
        self._events: list[RecordedEvent] = []
        self._streams: dict[str, list[int]] = {}
        self._head = Head(position=0, hash=genesis(self._ledger_id))
        self._lease: Lease | None = None
        self._epoch = 0
        self._letters: dict[str, _Letter] = {}
        self._closed = False

    @property
    def ledger_id(self) -> str:
        return self._ledger_id

    def head(self) -> Head:
        with self._changed:
            self._check_open()
            return self._head

    def append(self, events: Sequence[NewEvent], *, expected: int, lease: Lease, replies: Sequence[InboxReply] = ()) -> Head:
        """See `EventStore.append`."""
        with self._changed:
            self._check_open()
            rules.check(self._lease, lease)
            if self._head.position != expected:
                raise AppendConflict(f"the ledger is at position {self._head.position}, not {expected}")
            letters = self._answer(replies)
            rows = seal(events, self._head, default_codec())
            self._events.extend(_recorded(new, row) for new, row in zip(events, rows, strict=True))
            for position, stream, *_ in rows:
                self._streams.setdefault(stream, []).append(position)
            self._letters.update(letters)
            if rows:
                self._head = Head(position=rows[-1][0], hash=rows[-1][-1])
            self._changed.notify_all()
            return self._head

    def read(self, *, after: int = 0, until: int | None = None, stream: str | None = None) -> Iterator[RecordedEvent]:
        """See `EventStore.read`.  What is appended while it runs is not part of it."""
        head = self.head().position
        last = head if until is None else min(until, head)
        if stream is not None:
            yield from self._read_stream(stream, after, last)
            return
        for start in range(max(after, 0), last, _CHUNK):
            with self._changed:
                chunk = self._events[start : min(start + _CHUNK, last)]
            yield from chunk

    def wait(self, *, after: int, timeout_s: float) -> bool:
        """See `EventStore.wait`."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._head.position > after, timeout_s)
            self._check_open()
            return self._head.position > after

    def acquire_lease(self, owner: str, *, now: Micros, ttl: Duration) -> Lease:
        """See `EventStore.acquire_lease`."""
        with self._changed:
            self._check_open()
            self._lease = rules.grant(self._lease, self._epoch, owner, now, ttl)
            self._epoch = self._lease.epoch
            return self._lease

    def renew_lease(self, lease: Lease, *, now: Micros, ttl: Duration) -> Lease:
        """See `EventStore.renew_lease`."""
        with self._changed:
            self._check_open()
            self._lease = rules.renew(self._lease, lease, now, ttl)
            return self._lease

    def release_lease(self, lease: Lease) -> None:
        """See `EventStore.release_lease`."""
        with self._changed:
            self._check_open()
            if rules.in_force(self._lease, lease):
                self._lease = None

    def current_lease(self) -> Lease | None:
        with self._changed:
            self._check_open()
            return self._lease

    def put_request(self, request: InboxRequest) -> None:
        """Leave a request for the engine.  Raises `StoreError` where its id was used before, and for an unsealed secret."""
        text = rules.letter_text(request)
        with self._changed:
            self._check_open()
            if request.id in self._letters:
                raise rules.already_put(request.id)
            # A copy through JSON: what a store on disk would give back, and out of the caller's reach.
            self._letters[request.id] = _Letter(evolve(request, data=json.loads(text)))
            self._changed.notify_all()

    def pending_requests(self) -> Sequence[InboxRequest]:
        with self._changed:
            self._check_open()
            return [letter.request for letter in self._letters.values() if letter.reply is None]

    def reply_to(self, request: str) -> InboxReply | None:
        with self._changed:
            self._check_open()
            letter = self._letters.get(request)
            return letter.reply if letter is not None else None

    def withdraw_request(self, request: str) -> bool:
        """See `EventStore.withdraw_request`."""
        with self._changed:
            self._check_open()
            letter = self._letters.get(request)
            if letter is None or letter.reply is not None:
                return False
            del self._letters[request]
            return True

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _answer(self, replies: Sequence[InboxReply]) -> dict[str, _Letter]:
        answered: dict[str, _Letter] = {}
        for reply in replies:
            letter = answered.get(reply.request) or self._letters.get(reply.request)
            if letter is None or letter.reply is not None:
                raise rules.not_open(reply.request)
            answered[reply.request] = evolve(letter, reply=reply)
        return answered

    def _read_stream(self, stream: str, after: int, last: int) -> Iterator[RecordedEvent]:
        with self._changed:
            positions = [position for position in self._streams.get(stream, ()) if after < position <= last]
        for position in positions:
            with self._changed:
                recorded = self._events[position - 1]
            yield recorded

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the ledger is closed")


def _recorded(new: NewEvent, row: Row) -> RecordedEvent:
    position, stream, _, _, recorded_at, causation, correlation, actor, _, hash_ = row
    return recorded(position, stream, new.event, recorded_at, causation, correlation, actor, hash_)
