"""Numbers in eight bits and their scales: against E4M3 decoded bit by bit, numpy's own half and ONNX Runtime."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.helper as helper
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normexport.dtypes import FLOAT8
from normexport.precision.int8.histogram import Histogram
from normexport.precision.int8.ranges import mse
from normexport.precision.int8.storage import PLAIN, Storage

FP8 = Storage("float8_e4m3fn")
FINITE = st.floats(-1e5, 1e5, allow_nan=False)


def decoded(code: int) -> float:
    """The number of a byte: sign, four bits of exponent with bias 7, three of mantissa; all ones is NaN."""
    sign, exponent, mantissa = -1.0 if code & 0x80 else 1.0, (code >> 3) & 15, code & 7
    if exponent == 15 and mantissa == 7:
        return np.nan
    return sign * (mantissa / 8 * 2.0**-6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7))


CODES = np.array([decoded(code) for code in range(128)])[:-1]  # not negative, ascending


def nearest_by_hand(value: float) -> float:
    """Among all positive numbers of E4M3, the nearest one, of two the one with an even code."""
    size = min(abs(value), CODES[-1])
    off = np.abs(CODES - size)
    best = np.flatnonzero(off == off.min())
    return float(np.copysign(CODES[best[best % 2 == 0][0] if len(best) > 1 else best[0]], value))


@given(st.one_of(FINITE, st.floats(-0.1, 0.1), st.sampled_from([448.0, 464.0, 465.0, 2.0**-10, 3 * 2.0**-10, -0.0])))
def test_a_float8_is_the_nearest_of_all_there_are(value: float) -> None:
    found = float(FP8.nearest(np.array(value)))
    assert found == nearest_by_hand(value)
    if abs(value) <= FLOAT8.largest:
        assert abs(found - value) <= max(abs(value) / 16, 2.0**-10)


def test_the_largest_numbers_are_those_of_the_type() -> None:
    assert CODES[-1] == FLOAT8.largest == FP8.largest == float(ml_dtypes.finfo(FLOAT8.numpy).max)
    assert PLAIN.largest == 127


def test_onnx_runtime_rounds_and_saturates_alike() -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=20000) * 10.0 ** rng.uniform(-5, 4, 20000)).astype(np.float32)
    told = helper.make_node("QuantizeLinear", ["x", "s"], ["q"], output_dtype=FLOAT8.onnx)
    nodes = [told, helper.make_node("Cast", ["q"], ["y"], to=onnx.TensorProto.FLOAT)]
    one = helper.make_tensor("s", onnx.TensorProto.FLOAT, [], [1.0])
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None]) for name in "xy"]
    graph = helper.make_graph(nodes, "q", ends[:1], ends[1:], [one])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (found,) = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    np.testing.assert_array_equal(found, FP8.nearest(x).astype(np.float32))


@given(st.lists(st.floats(1e-30, 6e4), min_size=1, max_size=8), st.sampled_from(["float16", "bfloat16"]))
def test_a_scale_of_a_half_type_is_the_next_number_that_is_not_below(scales: list[float], dtype: str) -> None:
    kind: Any = np.float16 if dtype == "float16" else ml_dtypes.bfloat16
    wanted = np.array(scales, np.float32)
    found = Storage(scales=dtype).scale(wanted)
    assert found.dtype == np.float32
    held = found.astype(kind)
    assert (held.astype(np.float32) == found).all()
    assert (found >= wanted).all()
    below = (held.view(np.uint16) - 1).view(kind).astype(np.float32)
    assert (below < wanted).all()


def test_a_scale_beyond_a_half_type_stays_and_float32_changes_nothing() -> None:
    assert Storage(scales="float16").scale(1e6) == np.float32(1e6)
    scale = np.float32(0.1234567)
    assert PLAIN.scale(scale) == scale


@given(st.integers(0, 2**32 - 1), st.sampled_from(["int8", "float8_e4m3fn"]), st.sampled_from(["float32", "float16"]))
def test_weights_keep_their_largest_and_are_off_by_half_a_step_at_most(seed: int, dtype: str, scales: str) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=64) * 10 ** rng.uniform(-3, 2)
    storage = Storage(dtype, scales)
    scale = float(storage.scale(np.abs(weight).max() / storage.largest))
    held = storage.nearest(weight / scale).astype(np.float64) * scale
    step = scale if dtype == "int8" else np.maximum(np.abs(weight) / 8, scale * 2.0**-9)
    assert (np.abs(held - weight) <= step / 2 * (1 + 1e-6)).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_range_for_float8_cuts_no_more_off_than_it_gains(seed: int) -> None:
    values = np.random.default_rng(seed).standard_t(5, 20000)
    seen = Histogram()
    seen.add(values.astype(np.float32))
    low, high = mse(seen, True, FP8)
    assert low == -high

    def error(most: float) -> float:
        scale = most / FLOAT8.largest
        inside = np.clip(values / scale, -448, 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float64)
        return float(np.square(inside * scale - values).sum())

    assert error(high) <= 1.02 * min(error(np.abs(values).max() * share) for share in np.geomspace(1, 0.05, 40))
    assert high > mse(seen, True)[1]  # int8 cuts off more: its steps are of one size
