"""What the fold keeps of the engine's own events: where it is, which boot it saw, and whether it is real."""

from jobledger.core.events import EngineStarted, EngineStopped
from jobledger.core.evolve import evolve
from jobledger.core.world import World


def started(world, epoch, **more):
    evolve(world, EngineStarted(version="1", host="here", pid=1, epoch=epoch, **more), 0)


def test_an_engine_that_starts_is_the_one_that_runs():
    world = World()
    started(world, 1)
    assert (world.engine_epoch, world.engine_running) == (1, True)
    evolve(world, EngineStopped(epoch=1), 0)
    assert (world.engine_epoch, world.engine_running) == (1, False)
    started(world, 2)
    assert (world.engine_epoch, world.engine_running) == (2, True)


def test_folder_and_boot_stay_known_when_a_later_engine_does_not_say():
    world = World()
    started(world, 1, root="/first", boot_id="b1")
    started(world, 2)
    assert (world.engine_root, world.engine_boot) == ("/first", "b1")
    started(world, 3, root="/second", boot_id="b2")
    assert (world.engine_root, world.engine_boot) == ("/second", "b2")


def test_a_ledger_is_as_real_as_its_latest_engine():
    world = World()
    started(world, 1, dry_run="seed 7")
    assert world.dry_run == "seed 7"
    started(world, 2)
    assert world.dry_run == ""
