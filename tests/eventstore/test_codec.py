"""The stored form of events and requests: round trips, names, versions, upcasters, and the canonical bytes of the hash."""

import hashlib
import json
import types
import typing
from typing import Any, Literal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger.core import requests
from jobledger.core.errors import LedgerCorrupt, RequestRefused, UnknownEventType
from jobledger.core.events import STORED, Event, NodeIdle, PoolCreated, TaskRequeued
from jobledger.core.ids import JobId, Micros, NodeId, PoolId, TaskId
from jobledger.core.ports import RecordedEvent
from jobledger.core.requests import Request
from jobledger.core.specs import EnvironmentSetting, PoolSpec
from jobledger.eventstore.chain import link
from jobledger.eventstore.codec import REQUESTS, UPCASTERS, Codec, decode_request, default_codec, encode_request, event_as_json, rfc3339

SEALED = "hmac-sha256:" + 64 * "0"


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of an annotated type, every field of a record included, also those with a default; secrets are sealed."""
    if kind is EnvironmentSetting:
        plain = st.builds(EnvironmentSetting, name=values(str), value=values(str))
        return plain | st.builds(EnvironmentSetting, name=values(str), value=st.just(SEALED), secret=st.just(True))
    if attrs.has(kind):
        hints = typing.get_type_hints(kind)
        return st.builds(kind, **{field.name: values(hints[field.name]) for field in attrs.fields(kind)})
    if isinstance(kind, typing.NewType):
        return values(kind.__supertype__)
    arguments = typing.get_args(kind)
    match typing.get_origin(kind):
        case types.UnionType | typing.Union:
            return st.one_of([values(argument) for argument in arguments])
        case origin if origin is Literal:
            return st.sampled_from(arguments)
        case origin if origin is tuple:
            return st.lists(values(arguments[0]), max_size=3).map(tuple)
    simple: dict[Any, st.SearchStrategy[Any]] = {
        str: st.text(max_size=20),
        int: st.integers(-(2**63), 2**63 - 1),
        bool: st.booleans(),
        type(None): st.none(),
    }
    return simple[kind]


@given(st.sampled_from(typing.get_args(Event)).flatmap(values))
def test_every_event_is_decoded_as_it_was(event: Event) -> None:
    name, version, data = default_codec().encode(event)
    assert (name, version) == STORED[type(event)]
    assert default_codec().decode(name, version, data, 1) == event


@given(st.sampled_from(typing.get_args(Request)).flatmap(values))
def test_every_request_is_decoded_as_it_was(request: Request) -> None:
    kind, data = encode_request(request)
    assert decode_request(kind, json.loads(json.dumps(data))) == request


def test_every_event_and_request_has_one_stored_name() -> None:
    for union, table in ((Event, STORED), (Request, REQUESTS)):
        assert set(typing.get_args(union)) == set(table)
        assert len({name for name, _ in table.values()}) == len(table)


def test_every_older_version_can_be_lifted() -> None:
    for name, version in STORED.values():
        for older in range(1, version):
            assert (name, older) in UPCASTERS


def test_fields_that_nobody_knows_are_ignored() -> None:
    data = '{"node":"n-1","colour":"blue"}'
    assert default_codec().decode("node.idle", 1, data, 1) == NodeIdle(node=NodeId("n-1"))


@pytest.mark.parametrize(
    ("name", "version", "said"),
    [
        ("node.levitating", 1, "knows no event node.levitating (version 1) (at position 7)"),
        ("node.idle", 2, "knows node.idle up to version 1, not version 2 (at position 7)"),
        ("node.idle", 0, "not version 0 (at position 7)"),
    ],
)
def test_what_nobody_knows_is_refused_by_name_version_and_position(name: str, version: int, said: str) -> None:
    with pytest.raises(UnknownEventType) as caught:
        default_codec().decode(name, version, "{}", 7)
    assert said in str(caught.value)
    assert caught.value.position == 7


@pytest.mark.parametrize("data", ["", "{", "[]", "{}", '{"node":1}', '{"node":null}'])
def test_data_that_does_not_fit_is_refused_with_its_position(data: str) -> None:
    with pytest.raises(LedgerCorrupt, match=r"node\.idle version 1 cannot be read.*position 7"):
        default_codec().decode("node.idle", 1, data, 7)


def _rename_reason(data: dict[str, Any]) -> dict[str, Any]:
    return {"job": data["job"], "task": data["task"], "why": data["reason"]}


def _rename_why(data: dict[str, Any]) -> dict[str, Any]:
    return {"job": data["job"], "task": data["task"], "cause": data["why"].lower()}


def _grown() -> Codec:
    """A codec in which `task.requeued` has had two earlier meanings."""
    return Codec(
        stored={**STORED, TaskRequeued: ("task.requeued", 3)},
        upcasters={("task.requeued", 1): _rename_reason, ("task.requeued", 2): _rename_why},
    )


@pytest.mark.parametrize(("version", "field", "value"), [(1, "reason", "LOST"), (2, "why", "LOST"), (3, "cause", "lost")])
def test_every_version_ever_written_reads_as_todays(version: int, field: str, value: str) -> None:
    event = TaskRequeued(job=JobId("j"), task=TaskId("t"), cause="lost")
    assert _grown().decode("task.requeued", version, json.dumps({"job": "j", "task": "t", field: value}), 1) == event
    assert _grown().encode(event)[:2] == ("task.requeued", 3)


def test_a_gap_in_the_chain_of_upcasters_is_said() -> None:
    codec = Codec(stored={TaskRequeued: ("task.requeued", 3)}, upcasters={("task.requeued", 1): _rename_reason})
    with pytest.raises(UnknownEventType, match=r"nothing lifts task\.requeued version 2 to version 3"):
        codec.decode("task.requeued", 1, '{"job":"j","task":"t","reason":"x"}', 4)


def test_lifted_data_that_does_not_fit_is_refused() -> None:
    codec = Codec(stored={TaskRequeued: ("task.requeued", 2)}, upcasters={("task.requeued", 1): dict})
    with pytest.raises(LedgerCorrupt, match="cannot be read"):
        codec.decode("task.requeued", 1, '{"job":"j"}', 4)


@pytest.mark.parametrize(
    ("kind", "data"),
    [("delete-job/2", {"job": "j"}), ("dance/1", {}), ("delete-job", {"job": "j"}), ("delete-job/1", {}), ("delete-job/1", {"job": 1})],
)
def test_a_request_that_cannot_be_understood_is_refused(kind: str, data: dict[str, Any]) -> None:
    with pytest.raises(RequestRefused, match=kind) as caught:
        decode_request(kind, data)
    assert caught.value.code == "InvalidRequestBody"


def test_the_name_of_a_request_is_ours() -> None:
    assert encode_request(requests.EnableJob(job=JobId("j"))) == ("enable-job/1", {"job": "j"})


def test_an_event_as_json_has_every_part() -> None:
    recorded = RecordedEvent(
        position=3,
        stream="pool/p",
        event=PoolCreated(pool=PoolId("p"), spec=PoolSpec(id=PoolId("p"))),
        recorded_at=Micros(1_763_908_415_000_001),
        causation="event:2",
        correlation="pool/p",
        actor="ann",
        hash=bytes(range(32)),
    )
    shown = event_as_json(recorded)
    spec = shown["data"]["spec"]
    assert json.loads(json.dumps(shown)) == shown
    assert spec["executor"] == "local"
    assert {**shown, "data": None} == {
        "position": 3,
        "stream": "pool/p",
        "type": "pool.created",
        "version": 1,
        "recordedAt": "2025-11-23T14:33:35.000001Z",
        "causation": "event:2",
        "correlation": "pool/p",
        "actor": "ann",
        "data": None,
        "hash": bytes(range(32)).hex(),
    }


@pytest.mark.parametrize(
    ("at", "text"), [(0, "1970-01-01T00:00:00.000000Z"), (-1, "1969-12-31T23:59:59.999999Z"), (1_000_000, "1970-01-01T00:00:01.000000Z")]
)
def test_times_keep_their_microseconds(at: int, text: str) -> None:
    assert rfc3339(Micros(at)) == text


# --- what the hash covers ---


def by_the_book(before: bytes, *fields: Any) -> bytes:
    """The hash as `chain.py` documents it, with the standard library alone."""
    return hashlib.sha256(before + json.dumps(list(fields), ensure_ascii=False, separators=(",", ":")).encode()).digest()


@given(st.binary(min_size=32, max_size=32), st.integers(1, 2**53), st.lists(st.text(), min_size=6, max_size=6), st.integers(0, 2**53))
def test_the_hash_is_the_documented_one(before: bytes, position: int, texts: list[str], at: int) -> None:
    stream, type_, causation, correlation, actor, data = texts
    fields = (position, stream, type_, 1, at, causation, correlation, actor, data)
    assert link(before, *fields) == by_the_book(before, *fields)


def test_every_character_is_written_as_documented() -> None:
    text = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x11000)]))
    fields = (1, text, "t", 1, 0, "c", "c", "a", "{}")
    assert link(bytes(32), *fields) == by_the_book(bytes(32), *fields)


@pytest.mark.parametrize("field", range(10))
def test_every_field_counts(field: int) -> None:
    fields: list[Any] = [bytes(32), 1, "s", "t", 1, 0, "c", "r", "a", "{}"]
    changed = list(fields)
    changed[field] = {bytes: bytes([1]) * 32, int: 2, str: "x"}[type(fields[field])]
    assert link(*fields) != link(*changed)


def test_fields_do_not_run_together() -> None:
    assert link(bytes(32), 1, "ab", "c", 1, 0, "c", "r", "a", "{}") != link(bytes(32), 1, "a", "bc", 1, 0, "c", "r", "a", "{}")
