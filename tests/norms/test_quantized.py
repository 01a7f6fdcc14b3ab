"""The integer operators, against the float64 formula of the dequantised tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normexport import norms
from normexport.errors import UsageError
from normexport.norms import Scope

pytestmark = pytest.mark.slow

KINDS = sorted(norms.KINDS)


@st.composite
def quantized_case(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 7)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    spread = draw(st.sampled_from([1, 3, 40, 255]))
    low = int(rng.integers(-128, 129 - spread))
    q = rng.integers(low, low + spread, size=shape).astype(np.int8)
    scale = (rng.uniform(-2, 2, shape[1]) / 0.03).astype(np.float32)
    bias = rng.uniform(-60, 60, shape[1]).astype(np.float32)
    instance = draw(st.booleans())
    n = shape[2] * shape[3] * (1 if instance else shape[0])
    return (
        q,
        scale,
        bias,
        {
            "scope": Scope.of(instance),
            "k": draw(st.integers(1, n)),
            "chunks": draw(st.integers(1, 20)),
            "epsilon": draw(st.sampled_from([1e-3, 1e-5, 1.0])),
            "correction": draw(st.sampled_from([0.0, 0.0, 1.5])),
        },
    )


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=150)
@given(case=quantized_case())
def test_integer_statistics_give_the_float64_result_rounded(name: str, case: Any) -> None:
    q, scale, bias, how = case
    kind = norms.KINDS[name]
    got = norms.quantized_reference(kind, q, scale, bias, **how)
    exact = norms.reference(kind, q, scale, bias, **how)
    # float32 arithmetic may fall on the other side of a rounding boundary only where the result is next to one:
    # five roundings of 6e-8 each, of the scaled deviation and of the bias.
    slack = 5 * 6e-8 * (np.abs(exact - bias[:, None, None]) + np.abs(bias)[:, None, None] + 1)
    low, high = (np.rint(np.clip(exact + side * slack, -128, 127)) for side in (-1, 1))
    assert got.dtype == np.int8
    assert ((low <= got) & (got <= high)).all()


@pytest.mark.parametrize("name", KINDS)
def test_a_constant_channel_gives_the_rounded_bias(name: str) -> None:
    q = np.full((3, 2, 4, 4), -7, np.int8)
    got = norms.quantized_reference(norms.KINDS[name], q, np.ones(2, np.float32), np.array([2.5, -200], np.float32))
    assert (got[:, 0] == 2).all()  # half to even
    assert (got[:, 1] == -128).all()  # saturated


@pytest.mark.parametrize("name", KINDS)
def test_nan_parameters_give_zero_and_an_empty_batch_nothing(name: str) -> None:
    kind, q = norms.KINDS[name], np.arange(32, dtype=np.int8).reshape(2, 1, 16)
    one, nan = np.ones(1, np.float32), np.array([np.nan], np.float32)
    assert (norms.quantized_reference(kind, q, nan, one) == 0).all()
    assert norms.quantized_reference(kind, q[:0], one, one).shape == (0, 1, 16)


def test_k_beyond_the_elements_is_refused() -> None:
    with pytest.raises(UsageError, match="k = 5"):
        norms.quantized_reference(
            norms.KINDS["topk"], np.zeros((1, 1, 4), np.int8), np.ones(1, np.float32), np.ones(1, np.float32), k=5
        )


@pytest.mark.parametrize("op", norms.quantized_ops())
def test_integer_operators_are_known_to_the_checker_as_int8_with_float32_parameters(op: str) -> None:
    norms.register_schemas()
    schema = onnx.defs.get_schema(op, norms.VERSION, norms.DOMAIN)
    allowed = {constraint.type_param_str: list(constraint.allowed_type_strs) for constraint in schema.type_constraints}
    assert allowed == {"T": ["tensor(int8)"], "U": ["tensor(float)"]}
