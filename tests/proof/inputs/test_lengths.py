"""The lengths at which a network with open sizes is judged."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from normexport.onnx_export import parse_inputs
from normexport.proof.inputs.batches import standard_batches
from normexport.proof.inputs.lengths import lengths_left_out, open_numbers


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 30), st.integers(2, 60), st.booleans())
def test_every_length_is_one_of_the_range_and_both_ends_are_tried(
    least: int, step: int, more: int, width: int, second: bool
) -> None:
    texts = [f"2xH{'xW' if second else ''}", f"H={least}..{least + step * more}:{step}"]
    specs = parse_inputs([*texts, f"W=1..{width}"] if second else texts)
    heights = {spec.at(numbers).shape[1] for numbers in open_numbers(specs) for spec in specs}
    assert heights <= set(range(least, least + step * more + 1, step))
    assert {least, least + step * more} <= heights
    assert not lengths_left_out(specs)


def test_five_sizes_are_tried_and_one_of_them_is_next_to_the_middle() -> None:
    specs = parse_inputs(["3xHxW", "H=32..512:4", "W=32..512:4"])
    shapes = [batch.feeds["input"].shape[2:] for batch in standard_batches(specs)]
    assert len(set(shapes)) == 5
    assert shapes[:3] == [specs[0].shape[1:], (32, 32), (512, 512)]
    assert shapes[3] == (specs[0].shape[1] + 4, specs[0].shape[2] + 8)
    assert shapes[4] == (512, 32)


def test_a_size_of_two_inputs_is_one_length_in_each_batch() -> None:
    specs = parse_inputs(["ids=T:int64", "mask=TxT", "T=2..90"])
    for batch in standard_batches(specs):
        steps = batch.feeds["ids"].shape[1]
        assert batch.feeds["mask"].shape[1:] == (steps, steps)
        assert f"T {steps}" in batch.name


def test_what_was_not_tried_to_its_end_is_said() -> None:
    (far,) = lengths_left_out(parse_inputs(["3xHxH", "H=32..8192:32"]))
    assert far == "H: sizes tried to 1024, of a range to 8192"
    (endless,) = lengths_left_out(parse_inputs(["3xH", "H=32.."]))
    assert endless == "H: sizes tried to 128, of a range without an end"


def test_a_network_without_open_sizes_is_judged_as_before() -> None:
    specs = parse_inputs(["3x8x8"])
    assert open_numbers(specs) == ({},)
    assert [batch.name for batch in standard_batches(specs)] == [
        "random x1, batch 1",
        "random x0.1, batch 2",
        "random x4, batch 7",
    ]
