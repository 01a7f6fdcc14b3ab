"""What numbers in eight bits and a half remainder must hold, as plain functions: run against broken copies too."""

from __future__ import annotations

from normexport.precision.int8.remainder import Remainder
from tests.precision.int8 import test_remainder, test_storage


def float8_is_nearest() -> None:
    """E4M3 rounds to the nearest of all numbers there are, and saturates."""
    test_storage.test_a_float8_is_the_nearest_of_all_there_are()
    test_storage.test_the_largest_numbers_are_those_of_the_type()
    test_storage.test_onnx_runtime_rounds_and_saturates_alike()


def scales_are_numbers_of_the_half_type() -> None:
    """Scales go up to the next number of the half type; weights keep their largest."""
    test_storage.test_a_scale_of_a_half_type_is_the_next_number_that_is_not_below()
    test_storage.test_a_scale_beyond_a_half_type_stays_and_float32_changes_nothing()
    test_storage.test_weights_keep_their_largest_and_are_off_by_half_a_step_at_most()


def pairs_have_the_types_of_their_neighbours() -> None:
    """Around a softmax in float32 and layers in float16, and at inputs and outputs."""
    for dtype in ("int8", "float8_e4m3fn"):
        test_remainder.test_pairs_have_the_type_of_their_neighbours_and_no_casts("float16", dtype)
        test_remainder.test_the_file_computes_what_the_reference_of_onnx_computes(dtype)
    test_remainder.test_a_value_that_both_types_read_is_dequantised_twice_and_quantised_once()
    test_remainder.test_inputs_and_outputs_have_the_type_of_the_remainder_where_asked("float16")


def no_cast_stands_before_a_quantiser() -> None:
    """It takes the type of what it reads: float32 behind a softmax, at inputs what these have."""
    for half_io in (False, True):
        rest = Remainder("float16", half_io=half_io)
        found = test_remainder.made(test_remainder.network(), test_remainder.rows(), rest)
        quantisers = [node for node in found.graph if node.op_type == "QuantizeLinear"]
        makers = [value.producer() for node in quantisers if (value := node.inputs[0]) is not None]
        assert len(quantisers) >= 3
        assert all(maker is None or maker.op_type != "Cast" for maker in makers), makers


CLAIMS = (
    float8_is_nearest,
    scales_are_numbers_of_the_half_type,
    pairs_have_the_types_of_their_neighbours,
    no_cast_stands_before_a_quantiser,
)
