"""What all commands share: options, exit status, and how errors are shown.

Exit status is a contract: 0 the job completed and every task succeeded (or the command did what it was asked), 1 it ended
otherwise, 2 bad input and nothing was recorded, 3 refused in this state, 4 the ledger is in use, damaged or newer, 130 interrupted.
"""

import gc
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from getpass import getuser
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from ..core.errors import ExecutorError, JobledgerError, LeaseLost, LedgerBusy, LedgerCorrupt, LedgerTooNew, RequestRefused, StoreError
from ..engine import DEFAULT_LEDGER, DEFAULT_ROOT
from ..eventstore import SqliteStore
from ..jobfile import JobFileError

ENDED_OTHERWISE: Final = 1
BAD_INPUT: Final = 2
REFUSED: Final = 3
LEDGER_TROUBLE: Final = 4
INTERRUPTED: Final = 130

F = TypeVar("F", bound=Callable[..., Any])


def spare_the_collector() -> None:
    """For commands that hold a world: almost nothing that an engine makes is ever part of a cycle, and looking for it took a fifth of its time.

    It is the program's business and not the library's, so an embedding program decides for itself.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


class Group(click.Group):
    """A group of commands whose errors are one clear line and a stable exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except JobledgerError as error:
            as_json = bool(ctx.meta.get("json"))
            show_error(error, as_json=as_json)
            sys.exit(exit_status(error))
        except KeyboardInterrupt:  # Ctrl-C where no command deals with it by itself, such as while a ledger is being opened.
            click.echo("jobledger: interrupted", err=True)
            sys.exit(INTERRUPTED)
        except BrokenPipeError:  # The reader has had enough (`| head`): that is no error of ours.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)


class ListingGroup(click.Group):
    """A family of commands that lists where no other command is named: `jobledger nodes` is `jobledger nodes list`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        completing = not args and ctx.resilient_parsing
        if not completing and (not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names)):
            args = ["list", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands, and what may follow `list`."""
        listing = self.commands["list"]
        with listing.make_context("list", [], parent=ctx, resilient_parsing=True) as inner:
            if incomplete.startswith("-"):
                return listing.shell_complete(inner, incomplete)
            arguments = [part for part in listing.params if isinstance(part, click.Argument)]
            return [*super().shell_complete(ctx, incomplete), *(item for part in arguments for item in part.shell_complete(inner, incomplete))]


def exit_status(error: JobledgerError) -> int:
    """The exit status that an error leads to."""
    match error:
        case JobFileError():
            return BAD_INPUT
        case RequestRefused(code="InvalidPropertyValue" | "InvalidInput" | "RequestBodyTooLarge"):
            return BAD_INPUT
        case RequestRefused():
            return REFUSED
        case LedgerBusy() | LeaseLost() | LedgerCorrupt() | LedgerTooNew() | StoreError():
            return LEDGER_TROUBLE
        case _:
            return ENDED_OTHERWISE


def show_error(error: JobledgerError, *, as_json: bool) -> None:
    """An error on standard error, in words or as one JSON object."""
    code = error.code if isinstance(error, RequestRefused) else type(error).__name__
    if as_json:
        click.echo(json.dumps({"error": {"code": code, "message": str(error)}}), err=True)
        return
    label = f"refused ({code})" if isinstance(error, RequestRefused) else "executor" if isinstance(error, ExecutorError) else "error"
    click.echo(f"jobledger: {label}: {error}", err=True)


def ledger_option(command: F) -> F:
    """`--ledger PATH`."""
    return click.option(
        "--ledger",
        type=click.Path(dir_okay=False, path_type=Path),
        default=DEFAULT_LEDGER,
        show_default=True,
        envvar="JOBLEDGER_LEDGER",
        show_envvar=True,
        help="The ledger, a file.",
    )(command)


def root_option(command: F) -> F:
    """`--root DIR`."""
    return click.option(
        "--root",
        type=click.Path(file_okay=False, path_type=Path),
        default=DEFAULT_ROOT,
        show_default=True,
        envvar="JOBLEDGER_ROOT",
        show_envvar=True,
        help="The folder for local nodes' files.",
    )(command)


def json_option(command: F) -> F:
    """`--json`; errors are then JSON as well."""

    def remember(ctx: click.Context, _parameter: click.Parameter, value: bool) -> bool:
        ctx.meta["json"] = value
        return value

    return click.option("--json", "as_json", is_flag=True, callback=remember, help="Print JSON, a stable contract, in place of text.")(command)


@contextmanager
def opened(ledger: Path) -> Iterator[SqliteStore]:
    """The ledger for reading; never makes one.  Raises `StoreError` that says what to do where there is none."""
    if not ledger.exists():
        raise StoreError(f"there is no ledger at {ledger}; `jobledger run FILE` makes one, `--ledger PATH` names another")
    store = SqliteStore.open(ledger, create=False, read_only=True)
    try:
        yield store
    finally:
        store.close()


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def counted(number: int, noun: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def actor() -> str:
    """Who is asking, as the ledger records it."""
    try:
        return f"user:{getuser()}"
    except OSError:  # No such user in the account database, as in a container run under a bare uid.
        return f"uid:{os.getuid()}"
