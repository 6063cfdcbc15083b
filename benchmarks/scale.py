"""One dry run of many tasks on many nodes, in a process of its own: time for each event, and the most memory that was in use.

    python benchmarks/scale.py 100000 [--nodes 10000] [--slots 2] [--folder DIR]

Tasks take five minutes each, more or less (lognormal), and are added ten thousand at a time.  It prints one line of JSON.
"""

import argparse
import asyncio
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from jobledger import Duration, Engine, JobId, JobSpec, PoolId, PoolInfo, PoolSpec, TaskId, TaskSpec, open_store
from jobledger.cli.common import spare_the_collector
from jobledger.core.ids import SECOND
from jobledger.dryrun import Assumptions, surroundings_of
from jobledger.executors.dry_run import DryRunExecutor
from jobledger.executors.fortune import LaunchRule, Lognormal, Scenario, Span
from jobledger.virtual import VirtualLoop

CHUNK = 10_000
"""Tasks of one request: it becomes one batch in memory."""

FIVE_MINUTES = Scenario(launches=(LaunchRule(duration=Span(lognormal=Lognormal(median=Duration(300 * SECOND)))),))


async def simulate(path: Path, tasks: int, nodes: int, slots: int) -> dict[str, float]:
    """Drive the job to its end; what it cost."""
    made_from = Assumptions(seed=1, scenario=FIVE_MINUTES)
    store = open_store(path, durability="relaxed", ledger_id="5ca1ab1e")
    begin, cpu = time.perf_counter(), time.process_time()
    executors = {"local": DryRunExecutor(made_from.fortune())}
    async with await Engine.open(store, executors=executors, surroundings=surroundings_of(store, made_from)) as engine:
        await engine.create_pool(PoolSpec(id=PoolId("p"), nodes=nodes, task_slots_per_node=slots))
        await engine.submit(JobSpec(id=JobId("j"), pool_info=PoolInfo(pool_id=PoolId("p"))))
        for first in range(0, tasks, CHUNK):
            more = range(first, min(first + CHUNK, tasks))
            await engine.add_tasks(JobId("j"), [TaskSpec(id=TaskId(f"t{number:07}"), command_line="/bin/true") for number in more])
        added = time.perf_counter()
        await engine.until(lambda world: world.jobs[JobId("j")].counts["completed"] == tasks)
        events, virtual_s = engine.position, asyncio.get_running_loop().time()
        assert engine.world.jobs[JobId("j")].succeeded == tasks
    took, used = time.perf_counter() - begin, time.process_time() - cpu
    scale = 1 if sys.platform == "darwin" else 1024
    return {
        "tasks": tasks,
        "nodes": nodes,
        "slots": slots,
        "events": events,
        "seconds": took,
        "adding_s": added - begin,
        "cpu_s": used,
        "us_per_event": took / events * 1e6,
        "cpu_us_per_event": used / events * 1e6,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 2**20,
        "virtual_s": virtual_s,
    }


def main() -> int:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description="One dry run of many tasks.")
    parser.add_argument("tasks", type=int)
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the ledger is put (default: the system's temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jobledger-scale-", dir=options.folder) as name, asyncio.Runner(loop_factory=VirtualLoop) as runner:
        spare_the_collector()  # As the command line does.
        ledger = Path(name) / "ledger.db"
        cost = runner.run(simulate(ledger, options.tasks, options.nodes, options.slots))
        print(json.dumps(cost | {"ledger_mib": ledger.stat().st_size / 2**20}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
