"""The ports: what the engine asks of an executor and of a store, as protocols to implement and not classes to inherit.

The built-in implementations and those of third parties pass the same conformance suites (`jobledger.testing`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

from attrs import frozen

from .commands import Command, RunCommand
from .errors import ExecutorError
from .events import Event
from .ids import Duration, JobId, Micros, NodeId, PoolId, TaskId
from .reports import Report
from .specs import UserIdentity
from .world import Job, Task, World


@frozen(kw_only=True)
class NewEvent:
    """An event about to be appended, with what the ledger must know about it.

    `causation` says what caused it: `event:<position>`, `request:<id>`, `report:<execution or node>`, `clock` or `engine`;
    an event of the same batch is named by `event:+<index>`, its index in the batch, and the store resolves it.
    `correlation` is the job, pool or node that the whole chain is about.  `actor` is who asked, `jobledger` where nobody did.
    """

    event: Event
    recorded_at: Micros
    causation: str
    correlation: str
    actor: str


@frozen(kw_only=True)
class RecordedEvent:
    """An event as the ledger has it.  `hash` is of this event and the hash before it."""

    position: int
    stream: str
    event: Event
    recorded_at: Micros
    causation: str
    correlation: str
    actor: str
    hash: bytes


@frozen(kw_only=True)
class Head:
    """The end of the log: 0 and the genesis hash for an empty one."""

    position: int
    hash: bytes


@frozen(kw_only=True)
class Lease:
    """The right to append.  `epoch` grows by one with each taking; an append with an older epoch is refused."""

    owner: str
    epoch: int
    expires_at: Micros


@frozen(kw_only=True)
class InboxRequest:
    """A request that another process left for the engine.  `kind` and `data` are the stored form of a core request."""

    id: str
    kind: str
    data: Mapping[str, Any]
    actor: str
    reason: str | None
    submitted_at: Micros


@frozen(kw_only=True)
class InboxReply:
    """What was decided about a request: `accepted`, or the refusal's code and text; `position` is the head after it."""

    request: str
    accepted: bool
    code: str | None
    message: str
    position: int
    answered_at: Micros


class EventStore(Protocol):
    """One ledger: one totally ordered log with gapless positions from 1, and one writer at a time.

    Every method may raise `StoreError`.  Reading never needs the lease and never waits for a writer.
    """

    @property
    def ledger_id(self) -> str:
        """Eight hexadecimal digits, chosen when the ledger was created: the name space of its execution ids."""
        ...

    def head(self) -> Head: ...

    def append(self, events: Sequence[NewEvent], *, expected: int, lease: Lease, replies: Sequence[InboxReply] = ()) -> Head:
        """Append all of `events` after position `expected`, and answer `replies`, in one atomic and durable step.

        Raises `AppendConflict` where the head is not at `expected` and `LeaseLost` where `lease` was taken over; then nothing was recorded.
        """
        ...

    def read(self, *, after: int = 0, until: int | None = None, stream: str | None = None) -> Iterator[RecordedEvent]:
        """Events with `after` < position <= `until`, in order, of one stream if given.

        Raises `LedgerCorrupt` where positions or hashes do not follow (a read of one stream checks no chain), `UnknownEventType` for a foreign event.
        """
        ...

    def wait(self, *, after: int, timeout_s: float) -> bool:
        """True as soon as the head is past `after`, False after `timeout_s` seconds; sees other processes' appends too."""
        ...

    def acquire_lease(self, owner: str, *, now: Micros, ttl: Duration) -> Lease:
        """Take the lease with the next epoch.  Raises `LedgerBusy` (naming the owner) while another's has not expired."""
        ...

    def renew_lease(self, lease: Lease, *, now: Micros, ttl: Duration) -> Lease:
        """The same lease with a later end.  Raises `LeaseLost` where its epoch is no longer the current one."""
        ...

    def release_lease(self, lease: Lease) -> None:
        """Give the lease up; a lease that was taken over meanwhile is left alone."""
        ...

    def current_lease(self) -> Lease | None:
        """The lease as stored, expired or not; None where nobody holds one."""
        ...

    def put_request(self, request: InboxRequest) -> None: ...

    def pending_requests(self) -> Sequence[InboxRequest]:
        """Requests without a reply, oldest first."""
        ...

    def reply_to(self, request: str) -> InboxReply | None: ...

    def withdraw_request(self, request: str) -> bool:
        """Take back a request that has no reply yet; False where it has been answered."""
        ...

    def close(self) -> None: ...


ReportSink = Callable[[Report], None]


class Executor(Protocol):
    """Makes commands true and reports what it saw.  It never decides retries or states.

    All methods are called from the engine's asyncio loop, and `sink` must be called from it.
    """

    async def open(self, sink: ReportSink, *, ledger_id: str) -> None:
        """Get ready; `sink` takes reports from now until `close` returns.  Raises `ExecutorError`."""
        ...

    def recover(self, commands: Sequence[RunCommand], nodes: Mapping[NodeId, PoolId]) -> None:
        """After the engine's start: these executions are believed to run, and these nodes to be up.

        For each execution report what is known: `ExecutionExited`, `ExecutionLost`, or nothing while it runs on (and then its end); never launch it.
        For each node report `NodeReady` with the boot id it has now, or `NodeFaulted` (`wiped` for one that has lost its files).
        """
        ...

    def submit(self, commands: Sequence[Command]) -> None:
        """Begin to make `commands` true.  Returns at once; a command given before is answered with what is known of it."""
        ...

    async def failed(self) -> ExecutorError:
        """Comes back, with the reason, when the executor can do no more; the engine then stops."""
        ...

    async def close(self) -> None:
        """Stop reporting and let go; what runs goes on running, for the next engine to adopt."""
        ...


class Outputs(Protocol):
    """An executor that can say where an execution's output lies on this machine."""

    def output_path(self, pool: PoolId, node: NodeId, job: JobId | None, task: TaskId, which: Literal["stdout", "stderr"]) -> str: ...


@runtime_checkable
class Folders(Protocol):
    """An executor that can say where its nodes' folders lie on this machine."""

    def node_path(self, pool: PoolId, node: NodeId) -> str:
        """The node's own folder."""
        ...

    def folder_path(self, pool: PoolId, node: NodeId, job: JobId | None, task: TaskId) -> str:
        """The folder of a task, preparation, release or finalizer below it; with `job` None that of the start task."""
        ...


@runtime_checkable
class Identities(Protocol):
    """An executor that can run a command line as another user than its own; nothing with a `user` is given to one that cannot."""

    async def refusal(self, user: UserIdentity) -> str | None:
        """Why nothing can run as `user` now, and what would mend it; None where it can.  May be asked before `open`.

        A launch may still fail, since users and folders change; then it is reported as `ExecutionNotStarted`, and never run as somebody else.
        """
        ...


class PlacementPolicy(Protocol):
    """Chooses where a task goes, in place of the pool's `taskSchedulingPolicy`; which task comes next is no policy's business."""

    def choose(self, world: World, job: Job, task: Task, nodes: Iterator[NodeId]) -> NodeId:
        """One of `nodes`, which has at least one: those that have room for the task and may take it, the pool's own choice first.

        They are found as they are asked for, so a policy that looks at a few costs the same however large the pool is.
        It reads the world and never changes it.  The choice is recorded, so a replay asks no policy.
        """
        ...
