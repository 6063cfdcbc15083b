"""The sample of Azure Batch's article on job preparation and release tasks, on this machine, through the embedding API.

It makes a pool of two nodes, runs a job whose preparation writes the node's name into a file that the node's tasks share, runs
eight tasks that each add their name, prints the files, ends the job so that its release removes them, prints the exit codes of
preparation and release on each node, and offers to delete job and pool.

    python examples/job_prep_release.py          asks before it deletes
    python examples/job_prep_release.py --yes    asks nothing
"""

import argparse
import sys
from pathlib import Path

from jobledger import BlockingEngine, JobId, JobSpec, PoolId, PoolInfo, PoolSpec, PreparationSpec, ReleaseSpec, RequestRefused, TaskId, TaskSpec
from jobledger.core.world import World

POOL = PoolId("JobPrepReleaseSamplePool")
JOB = JobId("JobPrepReleaseSampleJob")
SHARED_FILE = "job_prep_and_release.txt"

# Command lines are not run under a shell, so one that wants redirection or variables names its shell.
PREPARATION = f"""/bin/sh -c 'echo "$AZ_BATCH_NODE_ID tasks:" > "$AZ_BATCH_NODE_SHARED_DIR/{SHARED_FILE}"'"""
TASK = f"""/bin/sh -c 'echo "  $AZ_BATCH_TASK_ID" >> "$AZ_BATCH_NODE_SHARED_DIR/{SHARED_FILE}"; sleep 0.2'"""
RELEASE = f"""/bin/sh -c 'rm "$AZ_BATCH_NODE_SHARED_DIR/{SHARED_FILE}"'"""

TASKS_LIMIT_S = 30 * 60
JOB_END_LIMIT_S = 2 * 60


def main() -> int:
    """Run the sample; 0 when all of it went as it should."""
    options = arguments()
    with BlockingEngine(options.ledger, root=options.root) as engine:
        print(f"Attempting to create pool: {POOL}")
        engine.create_pool(PoolSpec(id=POOL, nodes=2, task_slots_per_node=1))
        print(f"Created pool {POOL} with 2 nodes")

        print(f"Checking for existing job {JOB}...")
        if engine.read(lambda world: JOB in world.jobs):
            print(f"Job {JOB} exists from an earlier run.")
            if not confirmed("Delete it and run the sample anew?", options.yes):
                return 1
            engine.delete(JOB)
            engine.until(lambda world: JOB not in world.jobs, timeout_s=JOB_END_LIMIT_S)
            print(f"Job {JOB} deleted, creating it anew...")
        else:
            print(f"Job {JOB} not found, creating...")
        job = JobSpec(
            id=JOB,
            pool_info=PoolInfo(pool_id=POOL),
            job_preparation_task=PreparationSpec(command_line=PREPARATION),
            job_release_task=ReleaseSpec(command_line=RELEASE),
        )
        engine.submit(job)

        print("Submitting tasks and awaiting completion...")
        engine.add_tasks(JOB, [TaskSpec(id=TaskId(f"task{number:03}"), command_line=TASK) for number in range(1, 9)])
        engine.until(lambda world: world.jobs[JOB].counts["completed"] == 8, timeout_s=TASKS_LIMIT_S)
        print("All tasks completed.\n")
        print_shared_files(engine, options.root)

        print(f"Waiting for job {JOB} to reach state Completed")
        engine.terminate(JOB)
        engine.wait(JOB, timeout_s=JOB_END_LIMIT_S)
        print("...\n")
        succeeded = print_exit_codes(engine)

        if confirmed("Delete job?", options.yes):
            engine.delete(JOB)
        if confirmed("Delete pool?", options.yes):
            engine.delete_pool(POOL)
            engine.until(lambda world: POOL not in world.pools, timeout_s=JOB_END_LIMIT_S)
    print("\nSample complete.")
    return 0 if succeeded else 1


def print_shared_files(engine: BlockingEngine, root: Path) -> None:
    """The contents of each node's shared file."""
    for node in engine.read(lambda world: list(world.jobs[JOB].preparations)):
        path = root / POOL / node / "shared" / SHARED_FILE
        print(f"Contents of shared/{SHARED_FILE} on {node}:")
        print("-------------------------------------------")
        print(path.read_text())


def print_exit_codes(engine: BlockingEngine) -> bool:
    """Exit codes of preparation and release per node; whether all were 0."""

    def codes(world: World) -> dict[str, tuple[int | None, int | None]]:
        job = world.jobs[JOB]
        return {node: (job.preparations[node].exit_code, release.exit_code) for node, release in job.releases.items()}

    found = engine.read(codes)
    for node, (preparation, release) in sorted(found.items()):
        print(f"{node}:")
        print(f"  Prep task exit code:    {preparation}")
        print(f"  Release task exit code: {release}\n")
    return all(pair == (0, 0) for pair in found.values())


def confirmed(question: str, yes: bool) -> bool:
    """Ask on the terminal; an empty answer means yes, and so does `--yes`.  No answer at all (end of input) means no."""
    if yes:
        return True
    try:
        return input(f"{question} [yes] no\n").strip().lower() in {"", "y", "yes"}
    except EOFError:
        return False


def arguments() -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description="Job preparation and release, step by step.")
    parser.add_argument("--ledger", type=Path, default=Path(".jobledger/sample.db"), help="the ledger, a file")
    parser.add_argument("--root", type=Path, default=Path(".jobledger/sample-nodes"), help="the folder for the nodes' files")
    parser.add_argument("-y", "--yes", action="store_true", help="delete job and pool without asking")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RequestRefused as refusal:
        sys.exit(f"refused ({refusal.code}): {refusal}")
