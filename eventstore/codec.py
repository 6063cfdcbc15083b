"""The codec: events and requests to and from their stored form.

Invariants.
1. A stored name and version (`task.requeued` 1) is ours and for ever; the class's name is nowhere in a ledger.
2. An older version is lifted to today's by its chain of upcasters, one function a step, kept for ever.
3. A name that nobody knows, or a version newer than ours, is refused with its position: what cannot be understood
   is never skipped.  Fields that nobody knows are ignored, so that a field may be added without a new version.
4. What is encoded is decoded to an equal record (a property test holds it for every type).
5. The plain value of a secret setting is refused: this is the door to the ledger, and nothing that came in can be taken out.

msgspec encodes and decodes the core's attrs records themselves, with a prepared decoder a type: this is the hot path
of replay.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

import msgspec

from ..core import requests as core_requests
from ..core.errors import LedgerCorrupt, RequestRefused, StoreError, UnknownEventType
from ..core.events import STORED, Event
from ..core.ids import Micros
from ..core.ports import RecordedEvent
from ..core.requests import Request
from ..core.secrecy import unsealed_in

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
"""From the data of one version to the data of the next."""

UPCASTERS: Final[Mapping[tuple[str, int], Upcaster]] = {}
"""(stored name, version) to what lifts that version to the next.  Empty until the first event changes its meaning."""

REQUESTS: Final[Mapping[type[Request], tuple[str, int]]] = {
    core_requests.CreatePool: ("create-pool", 1),
    core_requests.ResizePool: ("resize-pool", 1),
    core_requests.StopResize: ("stop-resize", 1),
    core_requests.DeletePool: ("delete-pool", 1),
    core_requests.SubmitJob: ("submit-job", 1),
    core_requests.AddTasks: ("add-tasks", 1),
    core_requests.TerminateJob: ("terminate-job", 1),
    core_requests.DeleteJob: ("delete-job", 1),
    core_requests.DisableJob: ("disable-job", 1),
    core_requests.EnableJob: ("enable-job", 1),
    core_requests.PatchJob: ("patch-job", 1),
    core_requests.TerminateTask: ("terminate-task", 1),
    core_requests.DeleteTask: ("delete-task", 1),
    core_requests.ReactivateTask: ("reactivate-task", 1),
    core_requests.RebootNode: ("reboot-node", 1),
    core_requests.ReimageNode: ("reimage-node", 1),
    core_requests.RemoveNode: ("remove-node", 1),
    core_requests.DeallocateNode: ("deallocate-node", 1),
    core_requests.StartNode: ("start-node", 1),
    core_requests.DisableScheduling: ("disable-scheduling", 1),
    core_requests.EnableScheduling: ("enable-scheduling", 1),
}
"""Every request with its stored name and version, which the inbox keeps together as `submit-job/1`."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Codec:
    """Events to and from name, version and JSON text.  `stored` and `upcasters` are arguments so that tests can grow old ones."""

    def __init__(self, stored: Mapping[type[Event], tuple[str, int]] = STORED, upcasters: Mapping[tuple[str, int], Upcaster] = UPCASTERS) -> None:
        self._stored = stored
        self._upcasters = upcasters
        self._types: dict[str, tuple[type[Event], int]] = {name: (kind, version) for kind, (name, version) in stored.items()}
        self._decoders: dict[tuple[str, int], msgspec.json.Decoder[Event]] = {
            (name, version): msgspec.json.Decoder(kind) for kind, (name, version) in stored.items()
        }
        self._encode = msgspec.json.Encoder().encode

    def name(self, event: Event) -> tuple[str, int]:
        """The stored name and version of an event."""
        return self._stored[type(event)]

    def encode(self, event: Event) -> tuple[str, int, str]:
        """Stored name, version and JSON text.  Raises `StoreError` for text that is not Unicode (a lone surrogate), and for an unsealed secret."""
        name, version = self._stored[type(event)]
        if (secret := unsealed_in(event)) is not None:
            raise StoreError(f"{name} cannot be recorded: the secret {secret!r} in it is not sealed")
        try:
            return name, version, self._encode(event).decode()
        except UnicodeEncodeError as error:
            raise StoreError(f"{name} cannot be recorded: a text in it is not Unicode ({error.reason})") from error

    def decode(self, name: str, version: int, data: str, position: int) -> Event:
        """The event that was stored, lifted to today's version.

        Raises `UnknownEventType` for a foreign name or a newer version and `LedgerCorrupt` for data that does not fit them.
        """
        decoder = self._decoders.get((name, version))
        try:
            return decoder.decode(data) if decoder is not None else self._lift(name, version, data, position)
        except msgspec.MsgspecError as error:
            raise LedgerCorrupt(f"the data of {name} version {version} cannot be read: {error}", position) from error

    def _lift(self, name: str, version: int, data: str, position: int) -> Event:
        kind, current = self._current(name, version, position)
        fields = msgspec.json.decode(data, type=dict[str, Any])
        for step in range(version, current):
            upcaster = self._upcasters.get((name, step))
            if upcaster is None:
                raise UnknownEventType(f"nothing lifts {name} version {step} to version {step + 1}", position)
            fields = upcaster(fields)
        return msgspec.convert(fields, kind)

    def _current(self, name: str, version: int, position: int) -> tuple[type[Event], int]:
        known = self._types.get(name)
        if known is None:
            raise UnknownEventType(f"this version of jobledger knows no event {name} (version {version})", position)
        if not 1 <= version <= known[1]:
            raise UnknownEventType(f"this version of jobledger knows {name} up to version {known[1]}, not version {version}", position)
        return known


@cache
def default_codec() -> Codec:
    """The codec of this version of jobledger, made at its first use."""
    return Codec()


def refuse_unless_unicode(asked: object) -> None:
    """Raises `RequestRefused` where a text in what was asked is not Unicode (a lone surrogate): nothing that came of it could be recorded."""
    try:
        msgspec.json.encode(asked)
    except UnicodeEncodeError as error:
        raise RequestRefused("InvalidInput", f"a text in the request is not Unicode ({error.reason})") from error


def refuse_unless_sealed(request: Request) -> None:
    """Raises `RequestRefused` where a secret setting has its plain value: `jobledger.inbox.ask` and `Engine.request` seal what they are given."""
    if (secret := unsealed_in(request)) is not None:
        raise RequestRefused("InvalidPropertyValue", f"the secret environment setting {secret!r} has a plain value, which the ledger must not hold")


def encode_request(request: Request) -> tuple[str, dict[str, Any]]:
    """The `kind` (such as `submit-job/1`) and `data` under which the inbox keeps a request.  Raises `RequestRefused` (see above and below)."""
    refuse_unless_unicode(request)
    refuse_unless_sealed(request)
    name, version = REQUESTS[type(request)]
    return f"{name}/{version}", _plain(request)


def decode_request(kind: str, data: Mapping[str, Any]) -> Request:
    """The request that another process left in the inbox.

    Raises `RequestRefused`, so that the engine answers one it does not understand and goes on.
    """
    known = _request_types().get(kind)
    if known is None:
        raise RequestRefused("InvalidRequestBody", f"this version of jobledger knows no request {kind}")
    try:
        return msgspec.convert(data, known)
    except msgspec.MsgspecError as error:
        raise RequestRefused("InvalidRequestBody", f"request {kind} cannot be read: {error}") from error


def event_as_json(recorded: RecordedEvent) -> dict[str, Any]:
    """An event as `events --json` shows it: plain dicts, lists, strings and numbers.

    `version` is the one that `data` has, which is today's, whatever version was stored.
    """
    name, version = STORED[type(recorded.event)]
    return {
        "position": recorded.position,
        "stream": recorded.stream,
        "type": name,
        "version": version,
        "recordedAt": rfc3339(recorded.recorded_at),
        "causation": recorded.causation,
        "correlation": recorded.correlation,
        "actor": recorded.actor,
        "data": _plain(recorded.event),
        "hash": recorded.hash.hex(),
    }


def rfc3339(at: Micros) -> str:
    """A point in time as `2026-11-23T14:33:35.000000Z`."""
    return (_EPOCH + timedelta(microseconds=at)).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


@cache
def _request_types() -> dict[str, type[Request]]:
    return {f"{name}/{version}": kind for kind, (name, version) in REQUESTS.items()}


def _plain(record: Event | Request) -> dict[str, Any]:
    """What a reader of the JSON text would get: lists, not tuples."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(record))
    return plain
