"""Lengths of time as text: ISO 8601 for files and JSON, and a short form for people.

Azure Batch writes every duration in ISO 8601 (`PT15M`, `P1DT2H`), and *unlimited* as the longest one it knows, which is read here as None.
Years and months are refused, because nobody can say how long one is.  `parse(to_iso(d)) == d` for every duration.
"""

import re
from typing import Final

from jobledger.core.ids import SECOND, Duration

UNLIMITED: Final = "P10675199DT2H48M5.4775807S"
"""What Azure Batch answers where a time is not limited: the longest duration of .NET."""

_FORM: Final = re.compile(
    r"P(?=[0-9T])(?:(?P<weeks>[0-9]+)W|(?:(?P<days>[0-9]+)D)?"
    r"(?:T(?=[0-9])(?:(?P<hours>[0-9]+)H)?(?:(?P<minutes>[0-9]+)M)?(?:(?P<seconds>[0-9]+)(?:\.(?P<fraction>[0-9]+))?S)?)?)"
)
PATTERN: Final = re.sub(r"\?P<[a-z]+>", "", _FORM.pattern)
"""The accepted durations as a regular expression of JSON Schema's kind, which has no named groups."""

_MINUTE: Final = 60 * SECOND
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_UNLIMITED_DAYS: Final = 10_675_199
_DIGITS_MAX: Final = 12
"""Digits of one number: enough for a microsecond count of `_UNLIMITED_DAYS`, and a bound on what is multiplied."""


def parse(text: str) -> Duration | None:
    """The length of time that `text` names in ISO 8601, or None where it is `UNLIMITED` (or longer).

    Raises ValueError, with an example of what is meant, for anything else, and for more than microseconds.
    """
    match = _FORM.fullmatch(text)
    if match is None or max(map(len, re.findall(r"[0-9]+", text))) > _DIGITS_MAX:
        raise ValueError(
            f"{text!r} is not a duration: write ISO 8601, such as PT15M (15 minutes), P1DT2H (a day and 2 hours) or PT0.5S (half a second)"
        )
    number = {name: int(digits or 0) for name, digits in match.groupdict().items() if name != "fraction"}
    days = number["weeks"] * 7 + number["days"]
    if days >= _UNLIMITED_DAYS:
        return None
    micros = (match["fraction"] or "").ljust(6, "0")
    if micros[6:].strip("0"):
        raise ValueError(f"{text!r} is more precise than a microsecond: at most 6 digits may follow the point")
    total = days * _DAY + number["hours"] * _HOUR + number["minutes"] * _MINUTE + number["seconds"] * SECOND + int(micros[:6])
    return Duration(total) if total < _UNLIMITED_DAYS * _DAY else None


def to_iso(duration: Duration) -> str:
    """The duration in ISO 8601 with days, hours, minutes and seconds: `PT15M`, `P1DT2H`, `PT0S`.  Raises ValueError below 0."""
    if duration < 0:
        raise ValueError(f"a duration of {duration} microseconds is less than nothing")
    days, rest = divmod(duration, _DAY)
    hours, rest = divmod(rest, _HOUR)
    minutes, rest = divmod(rest, _MINUTE)
    seconds = f"{rest // SECOND}.{rest % SECOND:06}".rstrip("0").rstrip(".")
    clock = (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "") + (f"{seconds}S" if rest else "")
    return "P" + (f"{days}D" if days else "") + (f"T{clock}" if clock else "") if duration else "PT0S"


def for_people(duration: Duration) -> str:
    """The duration in its two largest units, rounded down: `15ms`, `3.2s`, `1m 3s`, `2h 5m`, `1d 3h`."""
    if duration < SECOND:
        return f"{duration // 1000}ms"
    if duration < _MINUTE:
        return f"{duration // 100_000 / 10:g}s"
    for unit, name, below, small in ((_DAY, "d", _HOUR, "h"), (_HOUR, "h", _MINUTE, "m"), (_MINUTE, "m", SECOND, "s")):
        if duration >= unit:
            rest = duration % unit // below
            return f"{duration // unit}{name}" + (f" {rest}{small}" if rest else "")
    raise AssertionError("a duration of a minute or more has a unit")
