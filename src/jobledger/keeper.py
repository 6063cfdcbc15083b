"""What an engine does about secrets: seals what it is asked, opens what it launches, and forgets what nothing can need any more.

1. A value is kept as long as a job that is not completed, a pool, or a request that is not answered has its digest; and no longer.
2. Who needs what is counted by the events that are in the ledger, so the cost of an event does not grow with the world.
3. Only a command on its way to an executor has values in it.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final, TypeVar

from attrs import Factory, define

from .core import events as e
from .core.commands import RunCommand
from .core.errors import RequestRefused
from .core.failure import FailureInfo
from .core.ports import EventStore, NewEvent
from .core.secrecy import digests_in, with_settings
from .core.specs import EnvironmentSetting
from .core.world import World
from .eventstore import decode_request
from .sealing import SecretStore

C = TypeVar("C", bound=RunCommand)
T = TypeVar("T")

_ADDS: Final = frozenset((e.JobCreated, e.TaskAdded, e.PoolCreated))
_ENDS: Final = frozenset((e.JobCompleted, e.JobDeleted, e.PoolDeleted))


@define
class SecretKeeper:
    """The secrets of the ledger that an engine drives."""

    _secrets: SecretStore
    _needs: dict[str, set[str]] = Factory(dict)
    """The digests that each job and pool may still need, by its stream; those that need none are not there."""
    _needed_by: dict[str, set[str]] = Factory(dict)
    """The same the other way round."""
    _asked: dict[str, frozenset[str]] = Factory(dict)
    """The digests in requests that are not answered yet."""

    @classmethod
    def of(cls, store: EventStore, world: World) -> "SecretKeeper":
        """The keeper for a ledger and its world, with what is needed no more forgotten.  Raises `StoreError`."""
        keeper = cls(SecretStore.of(store))
        try:
            keeper._begin(store, world)
        except BaseException:
            keeper.close()
            raise
        return keeper

    def _begin(self, store: EventStore, world: World) -> None:
        for job in world.jobs.values():
            if job.state != "completed":
                self._need(f"job/{job.id}", digests_in(job.spec))
                for task in job.tasks.values():
                    self._need(f"job/{job.id}", digests_in(task.spec))
        for pool in world.pools.values():
            self._need(f"pool/{pool.id}", digests_in(pool.spec))
        self._secrets.forget_all_but(self._needed_by.keys() | _waiting(store))

    def seal(self, request: T, identity: str) -> T:
        """The request with its secrets sealed and kept, at least until `answered`.  Raises `RequestRefused`, `StoreError`."""
        sealed = self._secrets.seal(request)
        self.note_request(sealed, identity)
        return sealed

    def note_request(self, request: object, identity: str) -> None:
        """Keep what a sealed request needs until `answered`."""
        if digests := digests_in(request):
            self._asked[identity] = digests

    def answered(self, identities: Iterable[str]) -> None:
        """These requests are answered: what they alone needed is forgotten."""
        free: set[str] = set()
        for identity in identities:
            if (digests := self._asked.pop(identity, None)) is not None:
                self._secrets.let_go(identity)
                free |= digests
        self._forget(free)

    def read_again(self, letters: Collection[str]) -> None:
        """These requests of the inbox will be read anew; they are held by whoever put them there."""
        for letter in letters:
            self._asked.pop(letter, None)

    def recorded(self, events: Iterable[NewEvent]) -> None:
        """These events are in the ledger."""
        free: set[str] = set()
        for new in events:
            kind = type(new.event)
            if kind in _ADDS or kind in _ENDS:
                owner = e.stream_of(new.event)
                if kind in _ADDS:
                    self._need(owner, digests_in(new.event))
                else:
                    free |= self._need_no_more(owner)
        self._forget(free)

    def opened(self, command: C) -> C | FailureInfo:
        """The command with the values of its secrets in it, or why it cannot run.  Raises `StoreError`."""
        secrets = [setting for setting in command.launch.environment if setting.secret]
        if not secrets:
            return command
        values = {digest: value for digest in digests_in(command) if (value := self._secrets.value(digest)) is not None}
        if missing := [setting.name for setting in secrets if setting.value not in values]:
            return self._missing(missing)
        return with_settings(command, lambda setting: _opened(setting, values))

    def close(self) -> None:
        self._secrets.close()

    def _missing(self, names: Collection[str]) -> FailureInfo:
        variables = ", ".join(sorted(names))
        text = (
            f"The value of the secret environment setting {variables} is not in {self._secrets.where}: "
            "put that file back if it was lost or left behind, or submit the work again under another id"
        )
        return FailureInfo(category="usererror", code="CommandLaunchFailed", message=text)

    def _need(self, owner: str, digests: Collection[str]) -> None:
        if digests:
            self._needs.setdefault(owner, set()).update(digests)
            for digest in digests:
                self._needed_by.setdefault(digest, set()).add(owner)

    def _need_no_more(self, owner: str) -> set[str]:
        """What `owner` needed."""
        digests = self._needs.pop(owner, set())
        for digest in digests:
            owners = self._needed_by[digest]
            owners.remove(owner)
            if not owners:
                del self._needed_by[digest]
        return digests

    def _forget(self, digests: set[str]) -> None:
        if digests:
            self._secrets.forget(digests - self._needed_by.keys() - set().union(*self._asked.values()))


def _opened(setting: EnvironmentSetting, values: Mapping[str, str]) -> EnvironmentSetting:
    if not setting.secret:
        return setting
    return EnvironmentSetting(name=setting.name, value=values[setting.value], secret=True)


def _waiting(store: EventStore) -> set[str]:
    """The digests in requests that wait in the ledger's inbox."""
    digests: set[str] = set()
    for letter in store.pending_requests():
        try:
            digests |= digests_in(decode_request(letter.kind, letter.data))
        except RequestRefused:  # It will be answered as one that nobody understands.
            continue
    return digests
