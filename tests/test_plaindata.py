import json
import traceback
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jobledger import plaindata

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20)


@given(TREES)
def test_json_comes_back_as_it_was_written(data: Any) -> None:
    assert plaindata.read_json(json.dumps(data)) == data


@given(TREES)
def test_yaml_is_read_as_pyyaml_reads_it(data: Any) -> None:
    text = yaml.safe_dump(data)
    assert plaindata.read_yaml(text) == yaml.safe_load(text)


def test_a_quoted_merge_sign_is_a_key_like_others() -> None:
    assert plaindata.read_yaml("{'<<': 1, a: 2}") == {"<<": 1, "a": 2}


def test_keys_are_text_whatever_yaml_thinks_of_them() -> None:
    assert plaindata.read_yaml("{on: 1, 1: 2, 2024-01-01: 3, null: 4}") == {"on": 1, "1": 2, "2024-01-01": 3, "null": 4}


def test_aliases_and_merges_stand_for_what_they_name() -> None:
    text = """
    first: &first {a: 1, b: 2}
    again: *first
    merged: {b: 3, <<: *first}
    several: {<<: [{a: 5}, *first]}
    &name key: 1
    *name : 2
    """
    assert plaindata.read_yaml(text) == {
        "first": {"a": 1, "b": 2},
        "again": {"a": 1, "b": 2},
        "merged": {"a": 1, "b": 3},
        "several": {"a": 5, "b": 2},
        "key": 1,
    }


def test_a_key_written_twice_is_remembered_with_its_lines() -> None:
    data = plaindata.read_yaml("job:\n  id: a\n  other: 0\n  id: b\ntasks: [{x: 1, x: 2}]\n")
    assert data == {"job": {"id": "a", "other": 0}, "tasks": [{"x": 1}]}
    assert list(plaindata.ambiguities(data)) == [
        (("job", "id"), "is written twice, in line 2 and in line 4"),
        (("tasks", 0, "x"), "is written twice, in line 5 and in line 5"),
    ]


def test_a_key_written_twice_in_json_is_remembered() -> None:
    data = plaindata.read_json('{"a": [{"b": 1, "c": 0, "b": 2}]}')
    assert data == {"a": [{"b": 1, "c": 0}]}
    assert list(plaindata.ambiguities(data)) == [(("a", 0, "b"), "is written twice")]


def test_an_empty_text_is_nothing() -> None:
    assert plaindata.read_yaml("# only a comment\n") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("job:\n\tid: a", "line 2, column 1: found character"),
        ("a: echo b: c", "line 1, column 10: mapping values are not allowed in this context: put text with ': ' in it in quotes"),
        ("a:\n  b: 1\n\tc: 2", "tab character that violates indentation: indent with spaces"),
        ("a: @b", "put text that begins with such a character in quotes"),
        ('a: "b" c', "did not find expected key: put the whole text in quotes"),
        ("a: 1\n---\nb: 2", "line 2, column 1: a second document begins"),
        ("a: *b", "line 1, column 4: an alias names nothing"),
        ("a: &a [*a]", "line 1, column 8: an alias names nothing that is complete before it"),
        ("{[a]: 1}", "a key must be text"),
        ("a: &a [1]\n*a : 2", "line 2, column 1: a key must be text"),
        ("a: {<<: 5}", "'<<' merges mappings only"),
        ("a: !!set {b}", "line 1, column 4: this tag has no meaning here"),
        ("a: !mine b", "line 1, column 4: this tag has no meaning here"),
        ("a: 2024-99-99", "line 1, column 4: this looks like a date or a number and is none: put it in quotes"),
        ("a: " + "[" * 100_000, "nested more than 100 deep"),
        ("a: \x07", "characters are not allowed"),
    ],
)
def test_what_is_not_yaml_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(plaindata.Unreadable) as refused:
        plaindata.read_yaml(text)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1,\n "b"}', "line 2, column 5: Expecting ':' delimiter"),
        ("NaN", "NaN is not JSON"),
        ("[" * 100_000, "nested more than 100 deep"),
        ("[" * 200 + "]" * 200, "nested more than 100 deep"),
        ("1" * 5000, "4300 digits"),
    ],
)
def test_what_is_not_json_is_refused(text: str, message: str) -> None:
    with pytest.raises(plaindata.Unreadable) as refused:
        plaindata.read_json(text)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "text", ["*hunter2", "!hunter2", "!hunter2 x", "!hunter2 [x]", "!!int hunter2", "!!float hunter2", "&hunter2 *hunter2", "&hunter2,", "@hunter2"]
)
def test_a_value_that_should_have_been_in_quotes_is_not_told(text: str) -> None:
    with pytest.raises(plaindata.Unreadable) as refused:
        plaindata.read_yaml(f"value: {text}")
    assert "hunter" not in "".join(traceback.format_exception(refused.value))
    assert "line 1, column " in str(refused.value)


def test_a_bomb_of_aliases_is_refused() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]" for before, name in zip("abcdefghij", "bcdefghijk", strict=True)]
    with pytest.raises(plaindata.Unreadable, match="aliases make far more of this text than it holds"):
        plaindata.read_yaml("\n".join(lines))


def test_one_list_may_be_used_by_many() -> None:
    tasks = "\n".join(f"- {{id: t{number}, environmentSettings: *env}}" for number in range(1000))
    data = plaindata.read_yaml(f"- &env [{{name: a, value: b}}, {{name: c, value: d}}]\n{tasks}")
    assert len(data) == 1001
