"""The integer operators' bodies on ONNX Runtime give the bytes of the numpy reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx.reference
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normexport import norms
from normexport.norms import Scope
from tests.precision.int8.quantized_nodes import model_of, run

pytestmark = pytest.mark.slow

KINDS = sorted(norms.KINDS)
SHAPES = [(3, 2), (2, 3, 5), (2, 3, 4, 3), (1, 2, 3, 2, 4), (4, 3, 1, 1), (5, 1, 7, 9)]


def parameters_of(kind: norms.NormKind, k: int, chunks: int) -> dict[str, Any]:
    """The attributes that this kind has."""
    return {name: value for name, value in (("k", k), ("chunks", chunks)) if name in kind.parameters}


def agree(name: str, q: np.ndarray, scale: np.ndarray, bias: np.ndarray, instance: bool, **how: Any) -> None:
    kind = norms.KINDS[name]
    expected = norms.quantized_reference(kind, q, scale, bias, scope=Scope.of(instance), **how)
    got = run(kind.quantized_op(Scope.of(instance)), q, scale, bias, **how)
    assert got.dtype == np.int8
    np.testing.assert_array_equal(got, expected)


@st.composite
def tensors(draw: Callable[..., Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """int8 of every spread and offset, among them ties and constant channels."""
    shape = draw(st.sampled_from(SHAPES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    spread = draw(st.sampled_from([1, 2, 3, 40, 256]))
    low = int(rng.integers(-128, 129 - spread))
    q = rng.integers(low, low + spread, size=shape).astype(np.int8)
    scale = (rng.uniform(-2, 2, shape[1]) * draw(st.sampled_from([1.0, 30.0, 1e4]))).astype(np.float32)
    whole = draw(st.booleans())  # whole and half biases tie in the last rounding
    bias = np.round(rng.uniform(-60, 60, shape[1]) * 2) / 2 if whole else rng.uniform(-60, 60, shape[1])
    return q, scale, bias.astype(np.float32)


@pytest.mark.parametrize("instance", [False, True])
@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=60)
@given(
    tensor=tensors(),
    k=st.sampled_from([1, 2, 3]),
    chunks=st.sampled_from([1, 4, 16]),
    epsilon=st.sampled_from([1e-5, 0.25]),
    correction=st.sampled_from([0.0, 1.5]),
)
def test_the_body_gives_the_bytes_of_the_reference(
    name: str,
    instance: bool,
    tensor: tuple[np.ndarray, np.ndarray, np.ndarray],
    k: int,
    chunks: int,
    epsilon: float,
    correction: float,
) -> None:
    elements = int(np.prod(tensor[0].shape[2:])) * (1 if instance else len(tensor[0]))
    how = parameters_of(norms.KINDS[name], min(k, elements), chunks)
    agree(name, *tensor, instance, epsilon=epsilon, correction=correction, **how)


@pytest.mark.parametrize("instance", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_large_tensors_and_saturated_means_give_the_same_bytes(name: str, instance: bool) -> None:
    rng = np.random.default_rng(3)
    q = np.clip(rng.normal([[[100]], [[-3]]], 40, (3, 2, 61, 53)).round(), -128, 127).astype(np.int8)
    scale, bias = np.array([40, -33.3], np.float32), np.array([0.5, -7], np.float32)
    agree(name, q, scale, bias, instance)


@pytest.mark.parametrize("instance", [False, True])
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("shape", [(0, 2), (0, 3, 4, 4)])
def test_an_empty_tensor_gives_an_empty_result(name: str, instance: bool, shape: tuple[int, ...]) -> None:
    kind, one = norms.KINDS[name], np.ones(shape[1], np.float32)
    how = parameters_of(kind, 1, 16)
    assert run(kind.quantized_op(Scope.of(instance)), np.zeros(shape, np.int8), one, one, **how).shape == shape


@pytest.mark.parametrize("name", KINDS)
def test_bad_parameters_give_zero_and_infinite_ones_saturate(name: str) -> None:
    q = np.array([[[-9, 4, 5, 4, 3, 1, 1, 0, 2, 3]]] * 2, np.int8)
    one = np.ones(1, np.float32)
    for scale, bias in ((np.nan, 1), (1, np.nan), (np.inf, 0), (1, np.inf), (1, -np.inf)):
        agree(name, q, scale * one, bias * one, False)


def test_k_beyond_the_elements_is_an_error() -> None:
    one = np.ones(1, np.float32)
    with pytest.raises(Exception, match="k"):
        run("QTopKBatchNorm", np.zeros((1, 1, 4), np.int8), one, one, k=5)


@pytest.mark.parametrize("instance", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_onnx_reference_gives_the_same_bytes(name: str, instance: bool) -> None:
    rng = np.random.default_rng(7)
    q = rng.integers(-128, 128, (2, 3, 4, 5)).astype(np.int8)
    scale, bias = rng.uniform(-60, 60, (2, 3)).astype(np.float32)
    kind = norms.KINDS[name]
    how = {"epsilon": 1e-5, "correction": 0.0, **kind.parameters}  # onnx.reference knows no defaults
    evaluator = onnx.reference.ReferenceEvaluator(model_of(kind.quantized_op(Scope.of(instance)), 4, **how))
    (got,) = evaluator.run(None, {"X": q, "scale": scale, "bias": bias})
    np.testing.assert_array_equal(got, norms.quantized_reference(kind, q, scale, bias, scope=Scope.of(instance)))
