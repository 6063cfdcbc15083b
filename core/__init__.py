"""The pure core: what a job, task, node and pool may do, and nothing else.

No I/O, clock, randomness, logging or threads live here; time and identity come in as arguments.
"""
