"""What all commands share that ask the engine which drives a ledger."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from ..core.errors import RequestRefused, StoreError
from ..core.ids import JobId
from ..core.ports import InboxReply
from ..core.requests import Request
from ..core.specs import NodeOption
from ..eventstore import SqliteStore
from ..inbox import ask, ask_all
from ..opening import is_dry_run
from .common import LEDGER_TROUBLE, REFUSED, actor, json_option, ledger_option, print_json

F = TypeVar("F", bound=Callable[..., Any])

timeout_option = click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0.1), default=30.0, show_default=True, help="Seconds to wait for the engine."
)


reason_option = click.option("--reason", default="", metavar="TEXT", help="Why, for the record; `explain` shows it.")


node_option = click.option(
    "--option",
    type=click.Choice(get_args(NodeOption)),
    default="requeue",
    show_default=True,
    help="What becomes of the tasks there: they run again elsewhere, end as failed, or are waited for.",
)


def asking(command: F) -> F:
    """The options `--ledger`, `--timeout` and `--json`."""
    return ledger_option(timeout_option(json_option(command)))


def ask_engine(ledger: Path, requests: Sequence[Request], said: str, *, timeout_s: float, as_json: bool) -> None:
    """Put requests one after the other and tell what was decided.  Raises `RequestRefused` with the engine's own words."""
    with _inbox(ledger) as store:
        for request in requests:
            reply = ask(store, request, actor=actor(), timeout_s=timeout_s)
            if not reply.accepted:
                raise RequestRefused(reply.code or "InvalidInput", reply.message)
    if as_json:
        print_json({"accepted": True, "position": reply.position})
    else:
        click.echo(f"{said} (position {reply.position})")


def ask_about_each(ledger: Path, requests: Mapping[JobId, Request], said: str, *, timeout_s: float, as_json: bool) -> int:
    """Put a request about each of several jobs and tell what was decided about each; the exit status that this leads to.

    `said` is told of what was granted, with the id in place of `{}`.
    """
    with _inbox(ledger) as store:
        replies = ask_all(store, list(requests.values()), actor=actor(), timeout_s=timeout_s)
    decided = dict(zip(requests, replies, strict=True))
    if as_json:
        print_json({"decided": [{"id": name, **_told(reply)} for name, reply in decided.items()]})
    else:
        for name, reply in decided.items():
            click.echo(said.format(name) + f" (position {reply.position})" if reply is not None and reply.accepted else f"{name}: {_refusal(reply)}")
    if None in replies:
        return LEDGER_TROUBLE
    return 0 if all(reply is not None and reply.accepted for reply in replies) else REFUSED


def _told(reply: InboxReply | None) -> dict[str, Any]:
    if reply is None:
        return {"accepted": False, "code": "NoAnswer", "message": _refusal(reply)}
    return {"accepted": True, "position": reply.position} if reply.accepted else {"accepted": False, "code": reply.code, "message": reply.message}


def _refusal(reply: InboxReply | None) -> str:
    return "not answered in time, and taken back" if reply is None else f"refused ({reply.code}): {reply.message}"


@contextmanager
def _inbox(ledger: Path) -> Iterator[SqliteStore]:
    """The ledger, to ask its engine.  Raises `StoreError` and `RequestRefused` that say what to do where there is no ledger or no engine."""
    if not ledger.exists():
        raise StoreError(f"there is no ledger at {ledger}; `jobledger engine --ledger {ledger}` makes one and drives it")
    store = SqliteStore.open(ledger, create=False)
    try:
        _refuse_dry_run(store, ledger)
        yield store
    except RequestRefused as refusal:
        if refusal.code != "NoEngine":
            raise
        advice = f"start one with `jobledger engine --ledger {ledger}`"
        raise RequestRefused(refusal.code, f"no engine drives {ledger}, so nothing was asked; {advice}") from None
    finally:
        store.close()


def _refuse_dry_run(store: SqliteStore, ledger: Path) -> None:
    if is_dry_run(store):
        raise RequestRefused("InvalidPropertyValue", f"ledger: {ledger} is a dry run's, and nothing real can be asked for there; name another one")
