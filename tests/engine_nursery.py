"""Engines to kill: for each line `LEDGER<tab>ROOT<tab>JOBFILE` on standard input, a fresh process that drives that job; its pid is printed.

One interpreter that has imported everything forks them all, so that a test can afford many.
"""

import asyncio
import os
import signal
import sys

from jobledger import Engine, jobfile


async def drive(ledger: str, root: str, file: str) -> None:
    job_file = jobfile.load(file)
    async with await Engine.open(ledger, root=root, durability="relaxed") as engine:
        if job_file.pool is not None:
            await engine.create_pool(job_file.pool)
        await engine.submit(job_file.job, job_file.tasks)
        await engine.wait(job_file.job.id)


signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        os.close(0)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        asyncio.run(drive(*line.rstrip("\n").split("\t")))
        os._exit(0)
    sys.stdout.write(f"{pid}\n")
    sys.stdout.flush()
