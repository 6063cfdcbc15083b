"""What an earlier run tells a dry run: how long each thing took there, and how it ended.

A try that was stopped, or of which nobody saw the end, tells nothing and is left out.
"""

from collections.abc import Mapping
from statistics import median_low

from attrs import Factory, define

from .core import events as e
from .core.events import Event
from .core.ids import Duration, ExecutionId, ExecutionKind, JobId, Micros
from .core.ports import EventStore
from .executors.fortune import Recorded, Recordings, Subject


def recordings_of(store: EventStore) -> Recordings:
    """What the whole ledger tells; of a job's id that was used more than once, the latest job.  Raises `LedgerCorrupt`, `StoreError`."""
    listener = _Listener()
    for recorded in store.read():
        listener.hear(recorded.event, recorded.recorded_at)
    return listener.recordings()


@define
class _Launched:
    event: e.ExecutionRequested
    started_at: Micros | None = None


@define
class _Listener:
    _live: dict[ExecutionId, _Launched] = Factory(dict)
    _by_job: dict[JobId | None, dict[Subject, list[Recorded]]] = Factory(dict)

    def hear(self, event: Event, at: Micros) -> None:
        match event:
            case e.JobCreated():
                self._by_job.pop(event.job, None)
            case e.ExecutionRequested():
                self._live[event.execution] = _Launched(event)
            case e.ExecutionConfirmed():
                if (launched := self._live.get(event.execution)) is not None:
                    launched.started_at = at
            case e.ExecutionEnded():
                self._ended(event, at)
            case e.ExecutionNeverRan():
                launched = self._live.pop(event.execution, None)
                if launched is not None and event.failure is not None:
                    self._add(launched.event, Recorded(duration=Duration(0), not_started=event.failure.code))
            case e.ExecutionUnresolved():
                self._live.pop(event.execution, None)
            case _:
                pass

    def recordings(self) -> Recordings:
        """What was heard.  What a job of another id did is known too, for one that was submitted anew under a new id."""
        tries: dict[Subject, list[Recorded]] = {}
        durations: dict[ExecutionKind, list[Duration]] = {}
        for by_subject in self._by_job.values():
            for (kind, job, task, node), found in by_subject.items():
                tries[(kind, job, task, node)] = tries[(kind, None, task, node)] = found
                durations.setdefault(kind, []).extend(one.duration for one in found if one.not_started is None)
        medians: Mapping[ExecutionKind, Duration] = {kind: median_low(lengths) for kind, lengths in durations.items() if lengths}
        return Recordings(tries=tries, medians=medians)

    def _ended(self, event: e.ExecutionEnded, at: Micros) -> None:
        launched = self._live.pop(event.execution, None)
        if launched is None or event.stopped:
            return
        took = event.wall
        if took is None and launched.started_at is not None:
            took = Duration(at - launched.started_at)
        if took is not None:
            self._add(launched.event, Recorded(duration=took, exit_code=event.exit_code, signal=event.signal))

    def _add(self, launched: e.ExecutionRequested, how: Recorded) -> None:
        where = None if launched.kind == "task" else launched.node
        subject = (launched.kind, launched.job, launched.task, where)
        self._by_job.setdefault(launched.job, {}).setdefault(subject, []).append(how)
