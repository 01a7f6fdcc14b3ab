"""JSON that nobody vouches for: one strict reading, and every refusal names the field."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from normexport.errors import UsageError
from normexport.io.json_files import (
    MOST_BYTES,
    BadJson,
    by_name,
    count,
    digest,
    dimension,
    file_name,
    flag,
    many,
    number,
    optional,
    parse_json,
    read_json,
    record,
    scalar,
    text,
    word,
)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"a": 1, "b": 2, "a": 3}', "gives 'a' twice"),
        ('{"a": {"b": 1, "\\u0062": 2}}', "gives 'b' twice"),
        ("[NaN]", "holds NaN"),
        ("[-Infinity]", "holds -Infinity"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("[" + "1" * 5000 + "]", "number that is too long"),
        ("[1] 2", "is no JSON"),
        ("", "is no JSON"),
        ("'a'", "is no JSON"),
        (b"\xff\xfe", "is no UTF-8"),
        (b"\xef\xbb\xbf{}", "is no JSON"),
    ],
)
def test_what_has_no_single_reading_is_no_json(content: bytes | str, words: str) -> None:
    with pytest.raises(BadJson, match=words) as raised:
        parse_json(content)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (text, ["", "é\n"], [1, None, [], "\ud800"]),
        (word, ["1.7.1"], ["a\nb", "x" * 101, "\x1b[31m"]),
        (file_name, ["model.onnx", "ö.plan"], ["", ".", "..", "/etc/passwd", "a/b", "a\\b", "a\0", 3]),
        (digest, ["0" * 64], ["0" * 63, "G" * 64, "A" * 64]),
        (flag, [True, False], [0, 1, "true", None]),
        (count, [0, 2**63 - 1], [-1, 2**63, 10**400, 1.0, True, "1"]),
        (dimension, [-1, 3], [-2, 0.5, None]),
        (number, [0, -1.5, 1e300], [1e999, -1e999, 10**400, True, "1"]),
        (scalar, [None, True, 1, -1.5, "a"], [[], {}, 10**400, 1e999]),
        (optional(count), [None, 0], [-1, ""]),
        (many(count), [[], [1]], [{}, [None], "ab", 1]),
        (by_name(number), [{}, {"a": 1}], [[], {"a": None}, {"\ud800": 1}]),
    ],
)
def test_a_check_takes_its_own_kind_and_names_the_place_of_others(
    check: Callable[..., Any], good: list[Any], bad: Iterable[Any]
) -> None:
    for value in good:
        found = check(value, "here")
        assert (list(found) if isinstance(found, tuple) else found) == value
    for value in bad:
        with pytest.raises(BadJson, match=r"^here") as raised:
            check(value, "here")
        message = str(raised.value)
        assert message.isascii()
        assert len(message) < 200


def test_fields_are_missing_unknown_or_of_another_format() -> None:
    fields = record({"format": 2, "a": {"b": [1, "x"]}}, "")
    with pytest.raises(BadJson, match="its format is 2, and this version of normexport reads 1"):
        fields.require_format(1)
    with pytest.raises(BadJson, match="b is missing"):
        fields.get("b", text)
    with pytest.raises(BadJson, match=r"a\.b\[1\] is 'x', and a whole number"):
        fields.get("a", record).get("b", many(count))
    fields.no_more()
    with pytest.raises(BadJson, match="unknown field 'c'"):
        record({"c": 1}, "").no_more()
    for form in (True, 1.0, "1", None):
        with pytest.raises(BadJson, match="format is"):
            record({"format": form}, "").require_format(1)


def test_a_document_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "x.json").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(UsageError, match="larger than 8 MiB"):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink(path, path), lambda path: None])
def test_what_is_no_file_is_refused_and_not_waited_for(make: Callable[..., Any], tmp_path: Path) -> None:
    make(tmp_path / "x.json")
    with pytest.raises(UsageError, match="can't be read"):
        read_json(tmp_path / "x.json")
