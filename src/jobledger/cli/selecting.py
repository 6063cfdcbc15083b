"""Selecting jobs, tasks and pools by their metadata: `--metadata NAME=VALUE`, or `--metadata NAME` for any value."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from ..core.specs import MetadataItem

F = TypeVar("F", bound=Callable[..., Any])

Wanted = tuple[str, str | None]
"""A name, and the value that it has to have; None for any."""


def _wanted(_ctx: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> tuple[Wanted, ...]:
    parts = [text.partition("=") for text in texts]
    if not all(name for name, _, _ in parts):
        raise click.BadParameter("write NAME=VALUE, or NAME for any value")
    return tuple((name, value if equals else None) for name, equals, value in parts)


def metadata_option(command: F) -> F:
    """`--metadata NAME[=VALUE]`, as often as one likes."""
    return click.option(
        "--metadata",
        multiple=True,
        callback=_wanted,
        metavar="NAME[=VALUE]",
        help="Only those that have this item, with that value if one is given.  May be given several times: all have to match.",
    )(command)


def has_metadata(items: Iterable[MetadataItem], wanted: Iterable[Wanted]) -> bool:
    """Whether all that is wanted is among the items."""
    there = [(item.name, item.value) for item in items]
    return all(any(name == has and value in {None, it} for has, it in there) for name, value in wanted)
