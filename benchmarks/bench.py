"""Measure jobledger beside the limits of the machine it runs on.

    python benchmarks/bench.py [--rounds 3] [--quick] [--large] [--json FILE]

Every figure is taken in several rounds, in turn with its limit; what counts is the ratio, because machines differ and are shared.
"""

import argparse
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import measures as m
from attrs import asdict, frozen

from jobledger import __version__

FLAT_MAX = 1.3
"""How much more an event may cost in the largest dry run than in the smallest."""


@frozen
class Row:
    """A figure beside its limit: medians, in units per second, and the median of the ratios with its spread."""

    what: str
    unit: str
    ours: float
    limit: str
    limit_value: float
    ratio: float
    ratio_low: float
    ratio_high: float


def paired(what: str, unit: str, limit: str, rounds: int, count: int, ours: m.Measure, theirs: m.Measure) -> Row:
    """Measure in turn, `rounds` times; both measures give seconds for `count` units."""
    mine, other = [], []
    for number in range(rounds):
        m.progress(f"{what}: round {number + 1} of {rounds}")
        mine.append(count / ours())
        other.append(count / theirs())
    ratios = sorted(a / b for a, b in zip(mine, other, strict=True))
    return Row(what, unit, statistics.median(mine), limit, statistics.median(other), statistics.median(ratios), ratios[0], ratios[-1])


def core_rows(rounds: int, scale: int) -> list[Row]:
    """Deciding and folding, in memory."""
    log, _ = m.simulate(10_000 // scale)
    count = len(log)
    return [
        paired(
            "decide and fold", "events/s", "dict dispatch alone", rounds, count, lambda: m.simulate(10_000 // scale)[1], lambda: m.bare_dispatch(log)
        ),
        paired("fold", "events/s", "dict dispatch alone", rounds, count, lambda: m.fold(log), lambda: m.bare_dispatch(log)),
    ]


def ledger_rows(folder: Path, rounds: int, scale: int) -> list[Row]:
    """Appending and replaying."""
    count = 50_000 // scale
    ledger = m.ledger_of(folder, 20_000 // scale)
    events, _ = m.replay_ledger(ledger)
    return [
        paired(
            "append, durable, batches of 100",
            "events/s",
            "executemany of rows as large",
            rounds,
            count,
            lambda: m.append_events(folder, count),
            lambda: m.append_rows(folder, count),
        ),
        paired(
            "replay (read, check, decode, fold)",
            "events/s",
            "fetch of the same rows",
            rounds,
            events,
            lambda: m.replay_ledger(ledger)[1],
            lambda: m.read_rows(ledger),
        ),
    ]


def process_rows(folder: Path, rounds: int, scale: int) -> list[Row]:
    """Real processes, end to end."""
    program = m.build_spawn_limit(folder)
    if program is None:
        m.progress("no C compiler: the end-to-end rows are left out, because their limit cannot be measured")
        return []
    count = 2_000 // scale
    return [
        paired(
            f"/bin/true end to end, {flight} in flight",
            "tasks/s",
            "C loop, posix_spawn and two files",
            rounds,
            count,
            lambda flight=flight: m.end_to_end(folder, count, flight),
            lambda flight=flight: m.spawn_limit(folder, program, count, flight),
        )
        for flight in (2, 8)
    ]


def flatness(folder: Path, rounds: int, scale: int) -> list[dict[str, Any]]:
    """Cost per task in one job of growing size: in the core alone, and in the durable engine with an executor that does nothing."""
    rows = []
    for count in (1_000 // scale, 10_000 // scale, 100_000 // scale):
        core, chained, cpu, wall = [], [], [], []
        for number in range(rounds):
            m.progress(f"cost per task, {count} tasks: round {number + 1} of {rounds}")
            core.append(m.simulate(count)[1] / count)
            chained.append(m.simulate(count, chained=True)[1] / count)
            seconds, used = m.engine_alone(folder, count)
            wall.append(seconds / count)
            cpu.append(used / count)
        rows.append(
            {
                "tasks": count,
                "core_us": statistics.median(core) * 1e6,
                "core_chained_us": statistics.median(chained) * 1e6,
                "engine_cpu_us": statistics.median(cpu) * 1e6,
                "engine_wall_us": statistics.median(wall) * 1e6,
            }
        )
    return rows


def simulations(folder: Path, rounds: int, sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Dry runs of growing size on ten thousand nodes, each in a process of its own: the round with the least processor time of each."""
    rows = []
    for count in sizes:
        costs = []
        for number in range(rounds):
            m.progress(f"dry run of {count:,} tasks: round {number + 1} of {rounds}")
            command = [sys.executable, m.HERE / "scale.py", str(count), "--folder", str(folder)]
            costs.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        rows.append(min(costs, key=lambda cost: cost["cpu_us_per_event"]))
    return rows


def show_simulations(rows: list[dict[str, Any]]) -> None:
    """The figures of dry runs as a Markdown table, and how flat the cost of an event is."""
    print("\n| dry run, tasks | nodes | events | seconds | CPU, µs an event | wall, µs an event | most memory, MiB | ledger, MiB |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        print(
            f"| {row['tasks']:,} | {row['nodes']:,} | {row['events']:,} | {row['seconds']:.0f} | {row['cpu_us_per_event']:.1f} "
            f"| {row['us_per_event']:.1f} | {row['peak_mib']:,.0f} | {row['ledger_mib']:,.0f} |"
        )
    first, last = rows[0]["cpu_us_per_event"], rows[-1]["cpu_us_per_event"]
    print(f"\nThe largest costs {last / first:.2f} times as much an event as the smallest; the target is {FLAT_MAX} at most.")


def show(rows: list[Row], flat: list[dict[str, Any]]) -> None:
    """The figures as two Markdown tables."""
    print("| what | jobledger | limit on the same machine | ratio (lowest to highest) |")
    print("|---|---:|---:|---:|")
    for row in rows:
        print(
            f"| {row.what} | {row.ours:,.0f} {row.unit} | {row.limit_value:,.0f} ({row.limit}) "
            f"| {row.ratio:.3f} ({row.ratio_low:.3f} to {row.ratio_high:.3f}) |"
        )
    print("\n| tasks in one job | core, µs a task | with dependencies | engine CPU, µs a task | engine wall, µs a task |")
    print("|---:|---:|---:|---:|---:|")
    for line in flat:
        print(
            f"| {line['tasks']:,} | {line['core_us']:.1f} | {line['core_chained_us']:.1f} | {line['engine_cpu_us']:.1f} | {line['engine_wall_us']:.1f} |"
        )


def main() -> int:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description="Measure jobledger beside the limits of this machine.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size: a check that it works, not a measurement")
    parser.add_argument("--large", action="store_true", help="also a dry run of a million tasks: some minutes, and two gigabytes")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--folder", type=Path, help="where the ledgers and files are put (default: the system's temporary folder)")
    options = parser.parse_args()
    scale = 10 if options.quick else 1
    with tempfile.TemporaryDirectory(prefix="jobledger-bench-", dir=options.folder) as name:
        folder = Path(name)
        rows = core_rows(options.rounds, scale) + ledger_rows(folder, options.rounds, scale) + process_rows(folder, options.rounds, scale)
        flat = flatness(folder, options.rounds, scale)
        sizes = (10_000 // scale, 100_000 // scale)
        dry = simulations(folder, 1, (*sizes, 1_000_000) if options.large else sizes)
    show(rows, flat)
    show_simulations(dry)
    if options.json is not None:
        machine = {
            "cpus": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "jobledger": __version__,
        }
        options.json.write_text(
            json.dumps({"machine": machine, "rows": [asdict(row) for row in rows], "cost_per_task": flat, "dry_runs": dry}, indent=2) + "\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
