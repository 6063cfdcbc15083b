"""All the machines by name: what the diagrams, the reference pages, the coverage test and the referee go through."""

from typing import Final

from .execution import EXECUTION
from .files import FILES, JOB_FILES
from .finalizer import FINALIZER
from .job import JOB
from .machine import Machine
from .node import NODE, SCHEDULING
from .pool import ALLOCATION, POOL
from .preparation import PREPARATION
from .release import RELEASE
from .start_task import START_TASK
from .task import TASK

MACHINES: Final[dict[str, Machine]] = {
    machine.name: machine
    for machine in (POOL, ALLOCATION, NODE, SCHEDULING, START_TASK, JOB, TASK, PREPARATION, RELEASE, FINALIZER, EXECUTION, FILES, JOB_FILES)
}
