import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jobledger import durations
from jobledger.core.ids import SECOND, Duration

LENGTHS = st.integers(0, 10_675_198 * 86_400 * SECOND).map(Duration)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT0S", 0),
        ("PT15M", 900),
        ("P1DT2H", 93_600),
        ("PT0.5S", 0.5),
        ("PT0.000001S", 0.000001),
        ("PT1.2500000S", 1.25),
        ("P2W", 1_209_600),
        ("P1D", 86_400),
        ("PT90M", 5_400),
        ("P1DT1H1M1.5S", 90_061.5),
    ],
)
def test_an_iso_duration_is_read(text: str, seconds: float) -> None:
    assert durations.parse(text) == Duration(round(seconds * SECOND))


@pytest.mark.parametrize("text", [durations.UNLIMITED, "P10675199D", "P10675199DT2H48M5.477581S", "P99999999999D", "PT999999999999H"])
def test_the_longest_durations_are_unlimited(text: str) -> None:
    assert durations.parse(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "P",
        "PT",
        "P1DT",
        "15m",
        "900",
        "PT15",
        "P1Y",
        "P2M",
        "-PT5M",
        "PT1.5H",
        "pt5m",
        "PT5M ",
        "PT5,5S",
        "PT٣S",
        "P1W2D",
        "PT.5S",
        "PT5S3M",
        "PT1000000000000S",
    ],
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"write ISO 8601, such as PT15M"):
        durations.parse(text)


def test_more_than_microseconds_is_refused() -> None:
    with pytest.raises(ValueError, match="more precise than a microsecond"):
        durations.parse("PT0.0000001S")


def test_a_negative_duration_has_no_text() -> None:
    with pytest.raises(ValueError, match="less than nothing"):
        durations.to_iso(Duration(-1))


@given(LENGTHS)
def test_what_is_written_is_read_back(length: Duration) -> None:
    text = durations.to_iso(length)
    assert durations.parse(text) == length
    assert re.fullmatch(durations.PATTERN, text)


@given(st.from_regex(re.compile(durations.PATTERN, re.ASCII), fullmatch=True))
def test_what_the_pattern_of_the_schema_lets_through_is_read(text: str) -> None:
    assume(max(len(digits) for digits in re.findall("[0-9]+", text)) <= 6)  # digits are what a pattern does not count
    assert durations.parse(text) is not None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.0159, "15ms"),
        (1, "1s"),
        (3.29, "3.2s"),
        (59.99, "59.9s"),
        (60, "1m"),
        (63.9, "1m 3s"),
        (7_500, "2h 5m"),
        (7_201, "2h"),
        (97_200, "1d 3h"),
    ],
)
def test_people_are_shown_two_units(seconds: float, text: str) -> None:
    assert durations.for_people(Duration(round(seconds * SECOND))) == text
