"""Sizes that stay open: `--input 3xHxW --input H=32..512:8`, and how they meet what a file says of its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normexport.errors import UsageError
from normexport.onnx_export import BatchRange, Declared, InputSpec, Open, close_sizes, parse_inputs


def lengths(spec: InputSpec, symbol: str, count: int = 400) -> list[int]:
    sizes = next(each.range for each in spec.open if each.symbol == symbol)
    most = sizes.least + count if sizes.most is None else sizes.most
    return [sizes.length(number) for number in range(sizes.least, most + 1)]


@given(st.integers(1, 600), st.integers(1, 64), st.integers(1, 40))
def test_a_range_has_the_lengths_of_pythons_range(least: int, step: int, more: int) -> None:
    most = least + step * more
    (spec,) = parse_inputs(["3xH", f"H={least}..{most}:{step}"])
    assert lengths(spec, "H") == list(range(least, most + 1, step))
    assert spec.shape[1] in lengths(spec, "H")


def test_sizes_have_the_middle_of_their_range_and_no_two_are_alike() -> None:
    (spec,) = parse_inputs(["x=3xHxW", "H=32..512:8", "W=32..512:8"])
    assert spec.declared() == (None, 3, "H", "W")
    assert spec.shape[1] != spec.shape[2]
    assert str(spec) == "x=Nx3xHxW:float32"
    assert spec.sample() == "3xHxW"


def test_one_symbol_is_one_size_in_all_inputs() -> None:
    ids, mask = parse_inputs(["ids=T:int64[0..9]", "mask=TxT", "T=5.."])
    assert ids.shape == (mask.shape[0],) == (mask.shape[1],)
    assert {each.range for spec in (ids, mask) for each in spec.open} == {BatchRange(5, None, 1, 0)}
    assert ids.at({"T": 7}).sized(2) == (2, 7)
    assert mask.at({"T": 7}).sized(2) == (2, 7, 7)


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (["Nx3x4"], "N is the batch"),
        (["3xH", "H=9..3"], "ends before it begins"),
        (["3xH", "H=0..3"], "from 0 on"),
        (["3xH", "H=1..9:0"], "by 0"),
        (["3xH", "H=7..7"], "is one size; write 7"),
        (["3xH", "H=32..100:32"], "end it at 96"),
        (["3xH", "W=3..9"], "no shape has a size W"),
        (["3xH", "H=3..9", "H=3..8"], "two ranges"),
        (["3xh"], "is not a shape"),
        (["image"], "is not a shape"),
    ],
)
def test_what_is_no_range_and_no_shape_is_refused_in_one_line(texts: list[str], why: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_inputs(texts)
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


def declared(*sizes: int | Open) -> list[Declared]:
    return [Declared("x", (Open("batch"), 3, *sizes), "float32")]


def by_fours(symbol: str) -> Open:
    return Open(symbol, BatchRange(1, 256, 4, 0))


def test_a_size_left_open_has_the_range_of_the_file() -> None:
    (spec,) = close_sizes(declared(by_fours("_H"), Open("width")), parse_inputs(["x=3xHxW"]))
    assert {each.symbol: each.range for each in spec.open} == {"H": BatchRange(1, 256, 4, 0), "W": BatchRange()}
    assert spec.shape[1] % 4 == 0
    assert spec.batched
    assert spec.axes == (0,)


def test_a_range_within_that_of_the_file_is_taken() -> None:
    (spec,) = close_sizes(declared(by_fours("_H"), 8), parse_inputs(["x=3xHx8", "H=16..64:8"]))
    assert lengths(spec, "H") == list(range(16, 65, 8))
    (endless,) = close_sizes(declared(by_fours("_H"), 8), parse_inputs(["x=3xHx8", "H=16..:8"]))
    assert lengths(endless, "H") == list(range(16, 1025, 8))


def test_arrays_tell_the_usual_length_of_an_open_size() -> None:
    (spec,) = close_sizes(declared(by_fours("_H"), Open("w")), parse_inputs(["x=3xHxW"]), {"x": (24, 3, 64, 96)})
    assert spec.shape == (3, 64, 96)
    assert [each.symbol for each in spec.open] == ["H", "W"]


def test_a_fixed_batch_stands_before_an_open_size() -> None:
    (spec,) = close_sizes([Declared("x", (1, 3, Open("h")), "float32")], parse_inputs(["x=3xH"]))
    assert not spec.batched
    assert spec.declared() == (1, 3, "H")


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (["x=CxHx8"], "leaves C open, and the model fixes it at 3; write 3"),
        (["x=3xHx8", "H=16..64:6"], "takes 4 to 1024 by 4"),
        (["x=3xHx8", "H=17..65:8"], "takes 4 to 1024 by 4"),
        (["x=3xHx8", "H=16..2048:4"], "takes 4 to 1024 by 4"),
        (["x=HxW"], "does not fit the model"),
        (["x=3xHx9"], "does not fit the model"),
    ],
)
def test_what_the_file_does_not_take_is_refused_in_one_line(texts: list[str], why: str) -> None:
    with pytest.raises(UsageError) as refused:
        close_sizes(declared(by_fours("_H"), 8), parse_inputs(texts))
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_range_whose_middle_is_large_is_taken_at_small_sizes() -> None:
    (image,) = parse_inputs(["3xHxW", "H=4..999999996:4", "W=32..9999"])
    assert 4 <= image.shape[1] <= 999999996
    assert image.shape[1] % 4 == 0
    assert image.shape[1] * image.shape[2] < 1 << 16
    (wave,) = parse_inputs(["1xL", "L=16000..480000"])
    assert 16000 < wave.shape[1] < 480000
