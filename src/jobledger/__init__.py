"""jobledger: an embeddable, event-sourced batch core with a ledger that proves what happened.

`Engine` is the asyncio front, `BlockingEngine` the synchronous one; both take the specs that are exported here.  To write an
executor or a store of your own, see `jobledger.core.ports` and verify it with `jobledger.testing`.
"""

__version__ = "0.3.0.dev0"

from .blocking import BlockingEngine
from .core.errors import (
    AppendConflict,
    ExecutorError,
    ImpossibleEvent,
    JobledgerError,
    LeaseLost,
    LedgerBusy,
    LedgerCorrupt,
    LedgerTooNew,
    PolicyError,
    RequestRefused,
    RulesDoNotSettle,
    StoreError,
    UnknownEventType,
)
from .core.ids import Duration, JobId, Micros, NodeId, PoolId, Retention, TaskId
from .core.ports import EventStore, Executor, PlacementPolicy, RecordedEvent
from .core.specs import (
    EnvironmentSetting,
    FinalizerSpec,
    JobConstraints,
    JobSpec,
    MetadataItem,
    PoolInfo,
    PoolSpec,
    PreparationSpec,
    ReleaseSpec,
    StartTaskSpec,
    TaskConstraints,
    TaskSchedulingPolicy,
    TaskSpec,
)
from .engine import Engine
from .eventstore import MemoryStore, SqliteStore, open_store
from .surroundings import Surroundings, here

__all__ = [
    "AppendConflict",
    "BlockingEngine",
    "Duration",
    "Engine",
    "EnvironmentSetting",
    "EventStore",
    "Executor",
    "ExecutorError",
    "FinalizerSpec",
    "ImpossibleEvent",
    "JobConstraints",
    "JobId",
    "JobSpec",
    "JobledgerError",
    "LeaseLost",
    "LedgerBusy",
    "LedgerCorrupt",
    "LedgerTooNew",
    "MemoryStore",
    "MetadataItem",
    "Micros",
    "NodeId",
    "PlacementPolicy",
    "PolicyError",
    "PoolId",
    "PoolInfo",
    "PoolSpec",
    "PreparationSpec",
    "RecordedEvent",
    "ReleaseSpec",
    "RequestRefused",
    "Retention",
    "RulesDoNotSettle",
    "SqliteStore",
    "StartTaskSpec",
    "StoreError",
    "Surroundings",
    "TaskConstraints",
    "TaskId",
    "TaskSchedulingPolicy",
    "TaskSpec",
    "UnknownEventType",
    "here",
    "open_store",
]
