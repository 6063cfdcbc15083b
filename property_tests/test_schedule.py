"""Engines under schedules: whatever arrives in whatever order and whenever they die, nothing untrue is recorded and nothing is stuck."""

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from jobledger.core.invariants import audit
from jobledger.core.subjects import moves
from jobledger.eventstore import SqliteStore
from jobledger.testing.schedule import POINTS, main, play

SEEDS = int(os.environ.get("JOBLEDGER_SCHEDULES", "60"))
"""How many seeds are played: `JOBLEDGER_SCHEDULES=5000 python -m pytest property_tests/test_schedule.py` plays more."""
PARTS = 4


@pytest.mark.parametrize("part", range(PARTS))
def test_schedules_break_nothing(part):
    broken = {seed: played.broken for seed in range(part, SEEDS, PARTS) if (played := play(seed)).broken}
    assert broken == {}


def test_the_same_seed_gives_the_same_ledger_in_any_process():
    """What a process hashes strings to must not matter."""
    program = "from jobledger.testing.schedule import play\nfor seed in (3, 4): print(play(seed).events[-1].hash.hex())"
    here = [play(seed).events[-1].hash.hex() for seed in (3, 4)]
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout.split() == here


def test_schedules_get_somewhere():
    """Among them are all ways to die, and things of every machine come to pass."""
    played = [play(seed) for seed in range(30)]
    story = "\n".join(line for one in played for line in one.story)
    assert [where for where in POINTS if f"the engine dies {where}" not in story] == []
    assert {machine.name for one in played for recorded in one.events for machine, _ in moves(recorded.event)} >= {
        "pool", "node", "job", "task", "preparation", "release", "finalizer", "execution", "files", "job-files"
    }  # fmt: skip


def test_a_seed_is_replayed_with_its_story_and_a_ledger(tmp_path):
    path = tmp_path / "ledger.db"
    done = CliRunner().invoke(main, ["--seed", "5", "--steps", "20", "--ledger", str(path)])
    assert done.exit_code == 0
    assert "the ledger is" in done.output
    store = SqliteStore.open(path, read_only=True)
    events = [(recorded.event, recorded.recorded_at) for recorded in store.read()]
    store.close()
    assert f"seed 5: {len(events)} events" in done.output
    assert audit(events) == []
