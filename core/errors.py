"""The errors, split by whose fault it is, so that a caller knows what to do about one.

The caller's: `RequestRefused` (nothing was recorded).  The store's: `StoreError`, `AppendConflict`, `LeaseLost`,
`LedgerBusy`, `EngineGone`.  The executor's: `ExecutorError`.  The placement policy's:
`PolicyError`.  A damaged or foreign ledger: `LedgerCorrupt`, `UnknownEventType`,
`LedgerTooNew`.  Ours: `ImpossibleEvent`, `RulesDoNotSettle`.  A task that exits 1 is an event and never an exception.
"""

from collections.abc import Sequence


class JobledgerError(Exception):
    """The one root: everything this package raises on purpose derives from it."""


class RequestRefused(JobledgerError):
    """A request cannot be granted in this state; nothing was recorded.

    `code` is Azure Batch's machine-readable code (`JobNotFound`, `TaskCompleted`, ...); the text names id, state and wish.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class StoreError(JobledgerError):
    """The store could not do its work (disk full, read only, I/O error); nothing of the batch was recorded."""


class AppendConflict(StoreError):
    """The ledger's head is not where the writer believed; somebody else has written."""


class LeaseLost(StoreError):
    """This engine no longer holds the ledger's lease: another one took over, and this one must stop."""


class LedgerBusy(StoreError):
    """Another engine holds the ledger's lease."""


class EngineGone(StoreError):
    """The engine that drove the ledger is gone; another one may be opened."""


class ExecutorError(JobledgerError):
    """The machinery that runs commands failed, as opposed to a command that failed."""


class PolicyError(JobledgerError):
    """A placement policy chose what it was not offered; nothing of the batch was recorded."""


class LedgerCorrupt(JobledgerError):
    """The ledger does not say what its hashes and positions promise; `position` is where it first breaks, 0 for the file as a whole."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(f"{message} (at position {position})" if position else message)
        self.position = position


class UnknownEventType(LedgerCorrupt):
    """An event whose stored name or version this version of jobledger does not know."""


class LedgerTooNew(JobledgerError):
    """The ledger's schema was written by a newer version of jobledger."""


class ImpossibleEvent(JobledgerError):
    """A bug of ours: an event that no row of its machine's table allows.

    `entity` names the thing and `stream` where its events are read; whoever has the ledger adds its last events with `tell`.
    """

    def __init__(self, message: str, entity: str = "") -> None:
        super().__init__(message)
        self.entity = entity
        self.stream = ""

    def tell(self, story: Sequence[str]) -> None:
        """Add the last events of the entity to what is printed."""
        self.add_note("last events: " + "; ".join(story))


class RulesDoNotSettle(JobledgerError):
    """A bug of ours: the joint rules kept producing events past their bound."""
