"""int8: every byte as the integer reference has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normexport import norms
from normexport.norms import Scope
from normexport.plugins import norm_call
from tests.plugins.cpu.kernel_cases import KINDS, needs_library

pytestmark = needs_library

PARAMETERS = [0.0, 1.0, -1.0, 0.37, 1e-30, 3e38, -3e38, np.inf, np.nan]


@st.composite
def byte_case(draw: Callable[..., Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, float | Scope]]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (
        draw(st.integers(1, 5)),
        draw(st.integers(1, 5)),
        draw(st.sampled_from([1, 2, 7, 49, 63, 64, 65, 196, 777])),
    )
    values = draw(st.sampled_from(["any", "narrow", "two", "extremes", "outlier"]))
    if values == "any":
        q = rng.integers(-128, 128, shape)
    elif values == "narrow":
        q = rng.integers(0, 3, shape) + rng.integers(-128, 126)
    elif values == "two":
        q = rng.choice(rng.integers(-128, 128, 2), shape)
    elif values == "extremes":
        q = rng.choice([-128, 127], shape)
    else:
        q = np.where(rng.random(shape) < 0.01, 127, rng.integers(-128, 128))
    if draw(st.booleans()):
        scale, bias = rng.uniform(-60, 60, (2, shape[1]))
    else:
        scale, bias = rng.choice(PARAMETERS, (2, shape[1]))
    instance = draw(st.booleans())
    n = shape[2] * (1 if instance else shape[0])
    how = {
        "scope": Scope.of(instance),
        "k": draw(st.sampled_from([1, min(10, n), min(200, n), n])),
        "chunks": draw(st.sampled_from([1, 2, 3, 16, 1000])),
        "epsilon": draw(st.sampled_from([0.0, 2.0**-17, 1.0, 1e30])),
        "correction": draw(st.sampled_from([0.0, 0.0, 1.5])),
    }
    return q.astype(np.int8), scale.astype(np.float32), bias.astype(np.float32), how


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150)
@given(case=byte_case(), threads=st.sampled_from([1, 3]))
def test_every_byte_is_that_of_the_integer_reference(
    kind: str, case: tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]], threads: int
) -> None:
    q, scale, bias, how = case
    expected = norms.quantized_reference(norms.KINDS[kind], q, scale, bias, **how)
    assert norm_call.norm(kind, q, scale, bias, threads=threads, **how).tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(8, 70, 28, 28), (2, 3, 300, 300), (40, 130, 7, 7), (300, 2, 500)])
def test_large_tensors_have_the_same_bytes(kind: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    q = np.clip(rng.normal(5, 40, shape), -128, 127).astype(np.int8)
    scale, bias = rng.uniform(20, 60, (2, shape[1])).astype(np.float32)
    options: list[dict[str, Any]] = [
        {"k": 10},
        {"k": 300, "chunks": 7},
        {"scope": Scope.INSTANCE, "k": 49, "chunks": 3},
    ]
    for how in options:
        expected = norms.quantized_reference(norms.KINDS[kind], q, scale, bias, **how)
        assert norm_call.norm(kind, q, scale, bias, threads=2, **how).tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_mean_half_way_between_bytes_is_exact(kind: str) -> None:
    # e = n/2: deviations of both neighbours of the mean are equal, and so are those of pairs further out.
    q = np.array([[[-3, 4, -3, 4, 0, 1, 0, 1] * 20]], np.int8)
    one, bias = np.array([40], np.float32), np.array([0.5], np.float32)
    for k in (1, 3, 80, 160):
        expected = norms.quantized_reference(norms.KINDS[kind], q, one, bias, k=k)
        assert norm_call.norm(kind, q, one, bias, k=k).tobytes() == expected.tobytes()
