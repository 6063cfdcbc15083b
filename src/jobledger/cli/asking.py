"""What all commands share that ask the engine which drives a ledger."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from ..core.errors import RequestRefused, StoreError
from ..core.ports import InboxReply
from ..core.requests import Request
from ..eventstore import SqliteStore
from ..inbox import ask
from .common import actor, json_option, ledger_option, print_json

F = TypeVar("F", bound=Callable[..., Any])

timeout_option = click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0.1), default=30.0, show_default=True, help="Seconds to wait for the engine."
)


reason_option = click.option("--reason", default="", metavar="TEXT", help="Why, for the record; `explain` shows it.")


def asking(command: F) -> F:
    """The options `--ledger`, `--timeout` and `--json`."""
    return ledger_option(timeout_option(json_option(command)))


def ask_engine(ledger: Path, requests: Sequence[Request], said: str, *, timeout_s: float, as_json: bool) -> None:
    """Put requests one after the other and tell what was decided.  Raises `RequestRefused` with the engine's own words."""
    if not ledger.exists():
        raise StoreError(f"there is no ledger at {ledger}; `jobledger engine --ledger {ledger}` makes one and drives it")
    store = SqliteStore.open(ledger, create=False)
    try:
        for request in requests:
            reply = _asked(store, ledger, request, timeout_s)
            if not reply.accepted:
                raise RequestRefused(reply.code or "InvalidInput", reply.message)
    finally:
        store.close()
    if as_json:
        print_json({"accepted": True, "position": reply.position})
    else:
        click.echo(f"{said} (position {reply.position})")


def _asked(store: SqliteStore, ledger: Path, request: Request, timeout_s: float) -> InboxReply:
    try:
        return ask(store, request, actor=actor(), timeout_s=timeout_s)
    except RequestRefused as refusal:  # Nobody was there to ask.
        advice = f"start one with `jobledger engine --ledger {ledger}`"
        raise RequestRefused(refusal.code, f"no engine drives {ledger}, so nothing was asked; {advice}") from None
