"""Text for people: plain lines and aligned columns, the same on a terminal and in a pipe.

Columns are measured here and not by a table library, because a job may have 100,000 tasks, which one takes a minute to lay out.
Text that users or programs chose is made printable first, so that it can neither break a line nor command a terminal.
"""

from collections.abc import Iterable, Iterator, Sequence


def columns(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """A line for the header and for each row, with columns two spaces apart."""
    table = [tuple(header), *(tuple(printable(str(cell)) for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def printable(text: str) -> str:
    """The text with a `?` for each character that is not printable."""
    return text if text.isprintable() else "".join(character if character.isprintable() else "?" for character in text)
