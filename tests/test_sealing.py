"""Where secrets are kept: what a digest is, who may read the file, several processes at once, and what forgetting leaves."""

import json
import os
import sqlite3
import stat
import subprocess
import sys
import traceback
import types
import typing
from contextlib import closing

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobledger import EnvironmentSetting, MemoryStore, RequestRefused, SqliteStore, StoreError, TaskId, TaskSpec
from jobledger.core.events import Event
from jobledger.core.requests import Request
from jobledger.core.secrecy import digests_in, is_sealed, unsealed_in
from jobledger.eventstore import decode_request, encode_request
from jobledger.eventstore.codec import default_codec
from jobledger.sealing import SecretStore

VALUE = "correct-horse-battery-staple"


def task(*values, secret=True):
    given_settings = tuple(EnvironmentSetting(name=f"S{number}", value=value, secret=secret) for number, value in enumerate(values))
    return TaskSpec(id=TaskId("t"), command_line="work", environment_settings=given_settings)


def values_of(record):
    return [setting.value for setting in record.environment_settings]


@pytest.fixture(params=["file", "memory"])
def secrets(request, tmp_path):
    with SecretStore(tmp_path / "ledger.db.secrets" if request.param == "file" else None) as store:
        yield store


@pytest.fixture
def in_file(tmp_path):
    with SecretStore(tmp_path / "ledger.db.secrets") as store:
        yield store


def every_byte(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


# --- sealing --------------------------------------------------------------------------------------------------


def test_what_is_sealed_can_be_opened(secrets):
    plain = task(VALUE, "", "ünï\n'\"", VALUE)
    sealed = secrets.seal(plain)
    digests = values_of(sealed)
    assert all(map(is_sealed, digests))
    assert len(set(digests)) == 3
    assert [secrets.value(digest) for digest in digests] == values_of(plain)
    assert all(setting.secret for setting in sealed.environment_settings)


def test_the_same_value_is_the_same_digest_under_one_key_and_another_under_another(secrets):
    first = secrets.seal(task(VALUE))
    assert secrets.seal(task(VALUE)) == secrets.seal(first) == secrets.sealed(task(VALUE)) == first
    with SecretStore(None) as other:
        assert digests_in(other.seal(task(VALUE))).isdisjoint(digests_in(first))
        assert other.value(values_of(first)[0]) is None


def test_what_is_not_secret_stays_as_it_is(secrets):
    plain = task(VALUE, secret=False)
    assert secrets.seal(plain) is plain
    assert secrets.path is None or not secrets.path.exists()  # a ledger without secrets has no file of them


def test_comparing_keeps_nothing(secrets):
    sealed = secrets.sealed(task(VALUE))
    assert unsealed_in(sealed) is None
    assert secrets.value(values_of(sealed)[0]) is None
    assert secrets.path is None or not secrets.path.exists()


@pytest.mark.parametrize(("value", "code"), [("hunter2\0", "InvalidPropertyValue"), ("hunter2\ud800", "InvalidInput")])
def test_a_value_that_no_program_can_be_given_is_refused_without_being_told(secrets, value, code):
    with pytest.raises(RequestRefused) as refused:
        secrets.seal(task("fine", value))
    assert refused.value.code == code
    assert "'S1'" in str(refused.value)
    assert "hunter2" not in "".join(traceback.format_exception(refused.value))


def records(kind, value):
    """Records of a type in which every secret has `value`, which stands nowhere else."""
    if kind is EnvironmentSetting:
        names = st.text("ABC_", min_size=1, max_size=5)
        return st.builds(kind, name=names, value=st.just("plain")) | st.builds(kind, name=names, value=st.just(value), secret=st.just(True))
    if attrs.has(kind):
        hints = typing.get_type_hints(kind)
        return st.builds(kind, **{field.name: records(hints[field.name], value) for field in attrs.fields(kind)})
    if isinstance(kind, typing.NewType):
        return records(kind.__supertype__, value)
    arguments = typing.get_args(kind)
    match typing.get_origin(kind):
        case types.UnionType | typing.Union:
            return st.one_of([records(argument, value) for argument in arguments])
        case origin if origin is typing.Literal:
            return st.sampled_from(arguments)
        case origin if origin is tuple:
            return st.lists(records(arguments[0], value), max_size=2).map(tuple)
    return {str: st.text("xyz", max_size=3), int: st.integers(0, 9), bool: st.booleans(), type(None): st.none()}[kind]


_CARRYING_EVENTS = [kind for kind in typing.get_args(Event) if "spec" in attrs.fields_dict(kind)]
_CARRYING_REQUESTS = [kind for kind in typing.get_args(Request) if {"spec", "tasks"} & attrs.fields_dict(kind).keys()]


@given(st.sampled_from(_CARRYING_REQUESTS).flatmap(lambda kind: records(kind, VALUE)))
@settings(suppress_health_check=list(HealthCheck))
def test_no_stored_request_has_a_value_in_it(request_record):
    with SecretStore(None) as secrets:
        sealed = secrets.seal(request_record)
        kind, data = encode_request(sealed)
        again = decode_request(kind, json.loads(json.dumps(data)))
        assert again == sealed
        for text in (json.dumps(data), repr(again), repr(sealed), repr(request_record)):
            assert VALUE not in text
        assert {secrets.value(digest) for digest in digests_in(again)} <= {VALUE}
        if unsealed_in(request_record) is not None:
            with pytest.raises(RequestRefused, match="ledger must not hold"):
                encode_request(request_record)


@given(st.sampled_from(_CARRYING_EVENTS).flatmap(lambda kind: records(kind, VALUE)))
@settings(suppress_health_check=list(HealthCheck))
def test_no_stored_event_has_a_value_in_it(event):
    with SecretStore(None) as secrets:
        sealed = secrets.seal(event)
        name, version, data = default_codec().encode(sealed)
        assert VALUE not in data
        assert default_codec().decode(name, version, data, 1) == sealed
        if unsealed_in(event) is not None:
            with pytest.raises(StoreError, match="is not sealed") as refused:
                default_codec().encode(event)
            assert VALUE not in str(refused.value)


# --- forgetting -----------------------------------------------------------------------------------------------


def test_what_is_forgotten_is_gone_and_the_rest_stays(secrets):
    one, two, three = values_of(secrets.seal(task("one", "two", "three")))
    secrets.forget({one})
    assert [secrets.value(digest) for digest in (one, two, three)] == [None, "two", "three"]
    secrets.forget_all_but({three})
    assert [secrets.value(digest) for digest in (one, two, three)] == [None, None, "three"]
    secrets.forget(set())
    secrets.forget_all_but(set())
    assert secrets.value(three) is None
    assert secrets.value(values_of(secrets.seal(task("one")))[0]) == "one"


def test_what_somebody_holds_is_not_forgotten_until_he_lets_go(secrets):
    (digest,) = values_of(secrets.seal(task(VALUE), holder="r-1", hold_s=100))
    secrets.seal(task(VALUE), holder="r-2", hold_s=100)
    secrets.forget({digest})
    secrets.let_go("r-1")
    secrets.forget_all_but(set())
    assert secrets.value(digest) == VALUE  # r-2 holds it still
    secrets.let_go("r-2")
    secrets.let_go("nobody")
    secrets.forget_all_but(set())
    assert secrets.value(digest) is None


def test_a_hold_runs_out(secrets):
    (digest,) = values_of(secrets.seal(task(VALUE), holder="r-1", hold_s=0))
    secrets.forget({digest})
    assert secrets.value(digest) is None


def test_no_byte_of_a_forgotten_value_is_left_in_the_folder(tmp_path, in_file):
    sealed = in_file.seal(task(*(f"{VALUE}-{number}" for number in range(500))))
    assert VALUE.encode() in every_byte(tmp_path)
    in_file.forget(digests_in(sealed))
    assert VALUE.encode() not in every_byte(tmp_path)


# --- the file -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277, 0o777])
def test_ledger_secrets_and_the_folders_made_for_them_are_private_whatever_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        store = SqliteStore.open(tmp_path / "a" / "b" / "ledger.db")
        with closing(store), SecretStore.of(store) as secrets:
            secrets.seal(task(VALUE))
            store.acquire_lease("me", now=1, ttl=1)
            found = {path.relative_to(tmp_path).as_posix(): stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a").rglob("*")}
            found["a"] = stat.S_IMODE((tmp_path / "a").stat().st_mode)
    finally:
        os.umask(before)
    files = {f"a/b/ledger.db{suffix}": 0o600 for suffix in ("", "-wal", "-shm", ".secrets")}
    assert found == {"a": 0o700, "a/b": 0o700, **files}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_file_that_others_may_read_or_change_is_refused(tmp_path, in_file, mode):
    (digest,) = values_of(in_file.seal(task(VALUE)))
    in_file.path.chmod(mode)
    with SecretStore(in_file.path) as other:
        for secrets in (in_file, other):
            for use in (lambda s: s.value(digest), lambda s: s.seal(task("new")), lambda s: s.forget_all_but(set())):
                with pytest.raises(StoreError, match=r"may be read by others.* `chmod 600` it"):
                    use(secrets)
    in_file.path.chmod(0o600)
    assert in_file.value(digest) == VALUE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(in_file):
    in_file.seal(task(VALUE))
    os.chown(in_file.path, 12345, 12345)
    with pytest.raises(StoreError, match="belongs to another user"):
        in_file.seal(task(VALUE))


def test_what_is_no_file_of_secrets_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "ledger.db.secrets"
    path.touch(0o600)
    for text in (b"", b"not a database at all, but long enough to be taken for one" * 99):
        path.write_bytes(text)
        with SecretStore(path) as secrets, pytest.raises(StoreError, match=r"ledger\.db\.secrets"):
            secrets.seal(task(VALUE))
        assert path.read_bytes() == text
    path.unlink()
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 7")
    path.chmod(0o600)
    with SecretStore(path) as secrets, pytest.raises(StoreError, match="not a file of secrets of this version"):
        secrets.value("hmac-sha256:x")


def test_a_file_that_is_lost_or_put_back_is_noticed(tmp_path, in_file):
    (digest,) = values_of(in_file.seal(task(VALUE)))
    away = tmp_path / "away"
    in_file.path.rename(away)
    assert in_file.value(digest) is None
    in_file.forget_all_but(set())  # nothing to forget, and nothing is made
    assert not in_file.path.exists()
    (another,) = values_of(in_file.seal(task(VALUE)))
    assert another != digest  # a new file has a new key
    away.rename(in_file.path)
    assert [in_file.value(one) for one in (digest, another)] == [VALUE, None]


def test_a_ledger_in_memory_keeps_its_secrets_as_long_as_it_lives():
    store = MemoryStore()
    with SecretStore.of(store) as secrets:
        sealed = secrets.seal(task(VALUE))
    with SecretStore.of(store) as again:
        assert again.value(values_of(sealed)[0]) == VALUE
    with SecretStore.of(MemoryStore()) as other:
        assert other.value(values_of(sealed)[0]) is None


SEALER = """
import sys
from pathlib import Path
from jobledger import EnvironmentSetting, TaskId, TaskSpec
from jobledger.sealing import SecretStore

def task(value):
    return TaskSpec(id=TaskId("t"), command_line="x", environment_settings=(EnvironmentSetting(name="S", value=value, secret=True),))

me = sys.argv[2]
with SecretStore(Path(sys.argv[1])) as secrets:
    sys.stdin.readline()
    for number in range(20):
        shared = secrets.seal(task(f"shared-{number}"), holder=f"{me}-{number}", hold_s=60)
        own = secrets.seal(task(f"{me}-{number}"))
        secrets.forget({own.environment_settings[0].value})
        print(shared.environment_settings[0].value)
"""


def test_several_processes_seal_at_once(tmp_path, in_file):
    command = [sys.executable, "-c", SEALER, str(in_file.path)]
    processes = [
        subprocess.Popen([*command, f"p{number}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    try:
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        told = [process.communicate(timeout=60) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * 4, told
    digests = [out.split() for out, _ in told]
    assert all(one == digests[0] for one in digests)  # one key, whoever made the file
    assert [in_file.value(digest) for digest in digests[0]] == [f"shared-{number}" for number in range(20)]
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.db.secrets"]
    for number in range(20):
        for process in range(4):
            in_file.let_go(f"p{process}-{number}")
    in_file.forget_all_but(set())
    assert b"shared-" not in in_file.path.read_bytes()
    assert b"p1-" not in in_file.path.read_bytes()
