"""Small words: counts, broken paths, what changed, sizes; and results as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from normexport.reports import Conversion, Operators
from normexport.reports.words import broken, changed_operators, count, size, tally
from normexport.text import one_line, shortened
from tests.reports import samples


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [(1, "norm", "1 norm"), (0, "norm", "0 norms"), (2, "module boundary", "2 module boundaries")],
)
def test_nouns_agree_with_their_numbers(number: int, noun: str, words: str) -> None:
    assert count(number, noun) == words


@pytest.mark.parametrize("path", ["a", "layer1.0.conv1", samples.DEEP, "x" * 70, "a/b/" * 12, ""])
@pytest.mark.parametrize("width", [1, 8, 26])
def test_broken_paths_keep_every_character_and_fit(path: str, width: int) -> None:
    lines = broken(path, width).split("\n")
    assert "".join(lines) == path
    assert max(map(len, lines)) <= width


def test_only_changed_operators_are_named_and_the_greatest_loss_comes_first() -> None:
    before, after = {"Conv": 4, "Add": 8, "RunningNorm": 5}, {"Conv": 4, "Add": 9, "Mul": 1}
    assert changed_operators(before, after) == "RunningNorm 5 → 0, Add 8 → 9, Mul 0 → 1"
    assert changed_operators(before, before) == ""


def test_lists_say_how_many_they_leave_out() -> None:
    assert shortened(["a", "b", "c"], most=2) == "a, b and 1 more"
    assert shortened(["a", "b"], most=2) == "a, b"


def test_tallies_count_only_where_there_is_more_than_one() -> None:
    assert tally(["l1", "l1"]) == "l1"
    assert tally(["l2", "l1", "l1"]) == "2 l1, 1 l2"


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (1_250_000, "1.25 MB")]
)
def test_sizes_are_decimal(number: int, words: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(number))
    assert size(tmp_path / "file") == words


def test_text_becomes_one_printable_line() -> None:
    assert one_line("a\nb\t c\x1b[0m\u202e") == "a b c\\x1b[0m\\u202e"


def test_a_conversion_is_plain_json() -> None:
    values = vars(samples.conversion(2))
    operators = Operators(before={"Conv": 2, "RunningNorm": 3}, after={"Conv": 2, "Mul": 1})
    conversion = Conversion(**{**values, "operators": operators, "parity": samples.parity(fault="NaN differs")})
    printed = json.loads(json.dumps(conversion.as_dict(), allow_nan=False))
    assert printed["passed"] is False
    assert printed["path"] == "runs/model.pt2"
    assert [outcome["fate"] for outcome in printed["outcomes"]] == ["folded", "folded", "lowered"]
    assert printed["seconds"] == {"load": 0.21, "export": 3.34}
    assert printed["inputs"][0]["shape"] == [3, 28, 28]
