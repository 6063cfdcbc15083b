"""A trail: a scripted walk under all judges, on one pool `p` and at most one job, written as a chain.

Trail(job=job).exit(0, 0).do(TerminateJob(job="j")).arrive().rest()
"""

from collections.abc import Sequence

from jobledger.core.decide import Stimulus
from jobledger.core.ids import NodeId, PoolId, TaskId
from jobledger.core.requests import CreatePool, SubmitJob
from jobledger.core.specs import JobSpec, PoolSpec, StartTaskSpec, TaskSpec

from .model import Fault
from .stage import RowTaken, Stage


class Trail(Stage):
    """A stage whose pool is up, unless `boot` says otherwise, and whose job's first commands are under way.

    `tasks` are ids or specs; the nodes are `p-1`, `p-2` and so on.
    """

    def __init__(
        self,
        rows: set[RowTaken] | None = None,
        *,
        nodes: int = 1,
        slots: int = 1,
        start_task: StartTaskSpec | None = None,
        boot: bool = True,
        job: JobSpec | None = None,
        tasks: Sequence[str | TaskSpec] = ("t",),
    ) -> None:
        super().__init__(rows)
        self.do(CreatePool(spec=PoolSpec(id=PoolId("p"), nodes=nodes, task_slots_per_node=slots, start_task=start_task)))
        if boot:
            self.arrive()
        if job is not None:
            specs = [TaskSpec(id=TaskId(task), command_line="work") if isinstance(task, str) else task for task in tasks]
            self.do(SubmitJob(spec=job, tasks=tuple(specs)))

    def do(self, *stimuli: Stimulus) -> "Trail":
        """Take each stimulus.  Raises AssertionError for one that is refused or leads to nothing."""
        for stimulus in stimuli:
            if not self.take(stimulus):
                raise AssertionError(f"{stimulus} led to nothing")
        return self

    def arrive(self) -> "Trail":
        """All commands and reports under way arrive, and those that follow from them; what runs goes on running."""
        while any(self.executor.queues.values()) or self.executor.reports:
            for node in [node for node, queue in self.executor.queues.items() if queue]:
                self.deliver(node)
            while self.executor.reports:
                self.report(0)
        return self

    def exit(self, *exit_codes: int) -> "Trail":
        """What runs ends, in turns with each of the codes, and what starts after it runs."""
        for exit_code in exit_codes:
            self.arrive()
            for execution in self.executor.running():
                self.end(execution, exit_code)
            self.arrive()
        return self

    def fail(self, fault: Fault, node: str = "p-1") -> "Trail":
        """A node fails."""
        return self.do(self.executor.fault(NodeId(node), fault))
