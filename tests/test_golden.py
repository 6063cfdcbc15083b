"""A ledger that any version ever wrote replays under this one, for ever, and means the same."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from jobledger import __version__
from jobledger.core.events import STORED
from jobledger.core.invariants import audit
from jobledger.core.world import World
from jobledger.eventstore import SqliteStore
from jobledger.replay import replay
from jobledger.views import node_view, pool_view, status_document

GOLDEN = sorted((Path(__file__).parent / "golden").glob("v*.db"))


def opened(path, folder):
    """A copy of a golden ledger, to read as it is."""
    copy = folder / path.name
    shutil.copy(path, copy)
    return SqliteStore.open(copy, read_only=True)


@pytest.fixture(params=GOLDEN, ids=lambda path: path.stem)
def ledger(request, tmp_path):
    store = opened(request.param, tmp_path)
    yield store, json.loads(request.param.with_suffix(".json").read_text())
    store.close()


def test_there_is_a_golden_ledger_of_a_released_version():
    assert GOLDEN


def test_it_means_what_it_meant(ledger):
    store, expected = ledger
    world, _ = replay(store)
    assert differences(shown(world, store.head().position), expected) == []


def test_it_keeps_every_invariant(ledger):
    store, _ = ledger
    assert audit((recorded.event, recorded.recorded_at) for recorded in store.read()) == []


def test_a_released_version_has_a_golden_ledger_with_every_type_of_event(tmp_path):
    if ".dev" in __version__:
        assert not [path for path in GOLDEN if path.stem == f"v{__version__}"], "what is not released yet makes no promise"
        return
    store = opened(Path(__file__).parent / "golden" / f"v{__version__}.db", tmp_path)
    types = {type(recorded.event) for recorded in store.read()}
    store.close()
    assert {event.__name__ for event in set(STORED) - types} == set()


def shown(world: World, position: int) -> dict[str, object]:
    return {
        "pools": [pool_view(pool) for pool in world.pools.values()],
        "nodes": [node_view(node) for node in world.nodes.values()],
        "jobs": [status_document(world, job_id, position) for job_id in world.jobs],
    }


def differences(now: Any, then: Any, path: str = "") -> list[str]:
    """What is told differently now; what a later version tells in addition is no difference."""
    if isinstance(now, dict) and isinstance(then, dict):
        return [line for key in then for line in differences(now.get(key), then[key], f"{path}.{key}")]
    if isinstance(now, list) and isinstance(then, list) and len(now) == len(then):
        return [line for number, pair in enumerate(zip(now, then, strict=True)) for line in differences(*pair, f"{path}[{number}]")]
    return [] if now == then else [f"{path}: {then} then, {now} now"]
