"""Group and layer norms by the compiled kernels: the formula, in int8 its very bytes, on any number of threads."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

import normexport.nn as nxn
from normexport import norms
from normexport.errors import UsageError
from normexport.nn import native
from normexport.norms import Scope
from normexport.plugins import norm_call
from tests.norms.witness import normalised
from tests.plugins.cpu.kernel_cases import EPSILON, KINDS, case, check, needs_library

pytestmark = needs_library

#: Shapes, each with a number of groups.
CASES = [
    ((2, 6, 1), 3),
    ((3, 6, 7, 7), 2),
    ((1, 6, 5), 6),
    ((5, 8, 33), 1),
    ((2, 4, 3, 2, 5), 2),
    ((2, 600, 3), 2),  # more channels than one call of a pass takes
    ((1, 4, 40000), 2),  # more than one part in a channel
    ((2, 90, 777), 3),  # parts that end inside a channel
    ((7, 1), 1),
    ((3, 5), 1),
    ((64, 257), 1),  # layers
    ((1, 100_003), 1),  # more than one part of elements with a channel each
    ((2, 60_000), 4),
]


def options(shape: tuple[int, ...], groups: int) -> dict[str, Any]:
    n = int(np.prod(shape[1:])) // groups
    return {"scope": Scope.GROUP, "num_groups": groups, "k": min(10, n), "chunks": 5}


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_and_type_gives_the_formula(kind: str, dtype: str) -> None:
    for shape, groups in CASES:
        check(kind, *case(shape, dtype), **options(shape, groups))


@pytest.mark.parametrize("kind", KINDS)
def test_the_formula_is_the_witness_too(kind: str) -> None:
    x, scale, bias = case((2, 6, 35), "float64")
    y = norm_call.norm(kind, x, scale, bias, epsilon=EPSILON, **options(x.shape, 2))
    wanted = normalised(kind, x, scale, bias, 2, epsilon=float(np.float32(EPSILON)), k=10, chunks=5)
    np.testing.assert_allclose(y, wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_every_byte_is_that_of_the_integer_reference(kind: str) -> None:
    rng = np.random.default_rng(3)
    for shape, groups in CASES:
        for spread in (256, 3):
            q = (rng.integers(0, spread, shape) - spread // 2).astype(np.int8)
            scale, bias = rng.uniform(-60, 60, (2, shape[1])).astype(np.float32)
            scale[0], bias[-1] = np.inf, np.nan
            how = options(shape, groups)
            expected = norms.quantized_reference(norms.KINDS[kind], q, scale, bias, **how)
            for threads in (1, 3):
                got = norm_call.norm(kind, q, scale, bias, threads=threads, **how)
                assert got.tobytes() == expected.tobytes(), (shape, spread, threads)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_number_of_threads_and_place_of_the_result_change_no_bit(kind: str, dtype: str) -> None:
    for shape, groups in CASES:
        x, scale, bias = case(shape, dtype)
        one = norm_call.norm(kind, x, scale, bias, threads=1, **options(shape, groups))
        for threads in (2, 5):
            many = norm_call.norm(kind, x, scale, bias, threads=threads, **options(shape, groups))
            assert one.tobytes() == many.tobytes(), (shape, threads)
        norm_call.norm(kind, x, scale, bias, out=x, threads=2, **options(shape, groups))
        assert x.tobytes() == one.tobytes(), shape


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_value_that_is_not_finite_makes_its_group_nan_and_no_other(kind: str, poison: float) -> None:
    for shape in ((3, 6, 41), (3, 120)):
        x, scale, bias = case(shape, "float32")
        how = options(shape, 3)
        clean = norm_call.norm(kind, x, scale, bias, **how)
        x[1, shape[1] // 2] = poison
        y = norm_call.norm(kind, x, scale, bias, **how)
        size = shape[1] // 3
        assert np.isnan(y[1, size : 2 * size]).all()
        y[1, size : 2 * size] = clean[1, size : 2 * size]
        assert (y == clean).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_group_and_one_element_give_bias_and_an_empty_batch_nothing(kind: str) -> None:
    for shape in ((3, 6, 50), (3, 300), (2, 6)):
        _, scale, bias = case(shape, "float32")
        y = norm_call.norm(kind, np.full(shape, 0.1, np.float32), scale, bias, **options(shape, 2))
        assert (y == bias.reshape(-1, *[1] * (len(shape) - 2))).all()
    x, scale, bias = case((3, 4), "float32")
    assert (norm_call.norm(kind, x, scale, bias, scope=Scope.GROUP, num_groups=4, k=1) == bias).all()
    assert norm_call.norm(kind, x[:0], scale, bias, scope=Scope.GROUP, num_groups=2).shape == (0, 4)


@pytest.mark.parametrize("groups", [4, 0, -1])
def test_groups_of_unequal_size_are_refused(groups: int) -> None:
    x, scale, bias = case((2, 6, 5), "float32")
    with pytest.raises(UsageError, match=rf"6 channels can't be shared out among num_groups = {groups}"):
        norm_call.norm("l1", x, scale, bias, scope=Scope.GROUP, num_groups=groups)


@pytest.mark.parametrize("kind", KINDS)
def test_modules_take_the_kernels(kind: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    title, k = norms.KINDS[kind].title, {"k": 4} if kind == "topk" else {}
    for module, shape in (
        (getattr(nxn, f"{title}GroupNorm")(2, 6, **k), (3, 6, 5, 4)),
        (getattr(nxn, f"{title}LayerNorm")((5, 4), **k), (3, 6, 5, 4)),
    ):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            for parameter in module.eval().parameters():
                parameter.copy_(torch.randn(parameter.shape))
            plain = module(x)
            with nxn.use_native_kernels(), patch("normexport.nn.native.live", wraps=native.live) as called:
                fast = module(x)
        assert called.call_count == 1
        torch.testing.assert_close(fast, plain, rtol=0, atol=1e-5)
