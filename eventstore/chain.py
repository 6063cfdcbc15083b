r"""The hash chain: what makes a ledger prove that nothing in it was changed, lost or put in.

The hash of an event is SHA-256 over the 32 bytes of the hash before it, followed by the UTF-8 bytes of one JSON array:

    [position, stream, type, version, recorded_at, causation, correlation, actor, data]

without white space, numbers in decimal, strings with the escapes of RFC 8785 (`\"`, `\\`, `\b`, `\f`, `\n`, `\r`,
`\t`, `\u00xx` in lower case for the other control characters below U+0020, and nothing else).  `recorded_at` is in
microseconds since 1970-01-01T00:00:00Z; `data` is the stored JSON *text*, as a string, never parsed and written anew.
The hash before the first event, the genesis hash, is SHA-256 over `jobledger ledger ` and the ledger's id, so that
no stretch of one ledger passes for another's.  With the standard library alone:

    array = [position, stream, type, version, recorded_at, causation, correlation, actor, data]
    text = json.dumps(array, ensure_ascii=False, separators=(",", ":"))
    hash = hashlib.sha256(hash_before + text.encode()).digest()

The chain finds damage and carelessness, and forgery by whoever does not recompute all that follows; a head that was
noted elsewhere finds that too.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec

from ..core.errors import StoreError
from ..core.events import Event, stream_of
from ..core.ids import Micros
from ..core.ports import Head, NewEvent, RecordedEvent
from .codec import Codec

_encode: Final = msgspec.json.Encoder().encode
_SAME_BATCH: Final = "event:+"


Row = tuple[int, Any, str, int, int, str, str, str, str, bytes]
"""An event as a store keeps it: position, stream, type, version, recorded_at, causation, correlation, actor, data, hash."""


def recorded(position: int, stream: str, event: Event, recorded_at: int, causation: str, correlation: str, actor: str, hash_: bytes) -> RecordedEvent:
    """What a store gives back for a row whose event was decoded."""
    return RecordedEvent(
        position=position,
        stream=stream,
        event=event,
        recorded_at=Micros(recorded_at),
        causation=causation,
        correlation=correlation,
        actor=actor,
        hash=hash_,
    )


def genesis(ledger_id: str) -> bytes:
    """The hash before the first event of the ledger named `ledger_id`."""
    return sha256(f"jobledger ledger {ledger_id}".encode()).digest()


def link(
    before: bytes,
    position: int,
    stream: str,
    type_: str,
    version: int,
    recorded_at: int,
    causation: str,
    correlation: str,
    actor: str,
    data: str,
) -> bytes:
    """The hash of one event, as the module's docstring defines it."""
    return sha256(before + _encode((position, stream, type_, version, recorded_at, causation, correlation, actor, data))).digest()


def seal(events: Sequence[NewEvent], head: Head, codec: Codec, column: Callable[[str], Any] = str) -> list[Row]:
    """`events` as rows with the positions and hashes they get after `head`; causations of the same batch are resolved.

    `column` is what the store keeps for the name of a stream.  Raises `StoreError` for text that is not Unicode and for a
    causation that names no earlier event of the batch.
    """
    rows: list[Row] = []
    position, before, encode = head.position, head.hash, codec.encode
    for new in events:
        position += 1
        event, at, causation, correlation, actor = new.event, new.recorded_at, new.causation, new.correlation, new.actor
        name, version, data = encode(event)
        stream = stream_of(event)
        if causation.startswith(_SAME_BATCH):
            causation = _resolve(causation, head.position, position)
        try:
            before = link(before, position, stream, name, version, at, causation, correlation, actor, data)
        except UnicodeEncodeError as error:
            raise StoreError(f"{name} cannot be recorded: its causation, correlation or actor is not Unicode ({error.reason})") from error
        rows.append((position, column(stream), name, version, at, causation, correlation, actor, data, before))
    return rows


def _resolve(causation: str, after: int, position: int) -> str:
    index = causation.removeprefix(_SAME_BATCH)
    if not index.isdecimal() or not (cause := after + 1 + int(index)) < position:
        raise StoreError(f"causation {causation!r} of event +{position - after - 1} names no earlier event of its batch")
    return f"event:{cause}"
