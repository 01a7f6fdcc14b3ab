"""The gradients of live norms in closed form, against automatic differentiation of formulas that are written here."""

from __future__ import annotations

import ast
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch._functorch._aot_autograd.utils import make_boxed_func

from normexport import nn as nxn
from normexport.nn.ops import blocks, live_norm
from tests.nn.formulas import KINDS, TITLES, extreme

EPS = 1e-3


def statistic(kind: str, d: Tensor, k: int, chunks: int) -> Tensor:
    """Of one row, by sorting; differentiable where nothing ties."""
    n, size = len(d), d.abs()
    if kind == "l1":
        return math.sqrt(math.pi / 2) * size.mean()
    if kind == "l2":
        return d.square().mean().sqrt()
    if kind in ("linf", "topk"):
        return extreme(max(n, 2)) * size.sort(descending=True).values[: k if kind == "topk" else 1].mean()
    length = max(2, math.ceil(n / chunks))
    spans = [piece.sort().values[-1] - piece.sort().values[0] for piece in d.split(length)]
    return 0.35 * extreme(length) * torch.stack(spans).mean()


def expected(kind: str, x: Tensor, vectors: list[Tensor], scope: str, groups: int, **parameters: int) -> Any:
    """(y, mean, stat), row by row."""
    n, c = x.shape[:2]
    if scope == "batch":
        rows = [x[:, i].reshape(-1) for i in range(c)]
        places: tuple[int, ...] = (c,)
    else:
        per_sample = c if scope == "instance" else groups
        rows, places = list(x.reshape(n * per_sample, -1)), (n, per_sample)
    means = [row.mean() for row in rows]
    stats = [statistic(kind, row - mean, **parameters) for row, mean in zip(rows, means, strict=True)]
    whitened = torch.stack([(r - m) / (s + EPS) for r, m, s in zip(rows, means, stats, strict=True)])
    back = whitened.reshape(c, n, *x.shape[2:]).transpose(0, 1) if scope == "batch" else whitened.reshape(x.shape)
    along = (1, c, *[1] * (x.dim() - 2))
    y = back * vectors[0].reshape(along) + vectors[1].reshape(along)
    return y, torch.stack(means).reshape(places), torch.stack(stats).reshape(places)


def how(kind: str, scope: str, groups: int, k: int, chunks: int) -> tuple[Any, ...]:
    return kind, scope == "instance", EPS, 0.0, k, chunks, groups if scope == "group" else 0


def laid_out(x: Tensor, form: str) -> Tensor:
    """The same numbers in another place of memory."""
    if form == "channels last" and x.dim() == 4:
        return x.contiguous(memory_format=torch.channels_last)
    if form == "transposed":
        return x.transpose(0, -1).contiguous().transpose(0, -1)
    if form == "sliced":
        return torch.stack([x, -x], -1)[..., 0]
    return x


@settings(max_examples=80)
@given(
    kind=st.sampled_from(KINDS),
    scope=st.sampled_from(["batch", "instance", "group"]),
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    samples=st.integers(1, 4),
    form=st.sampled_from(["contiguous", "channels last", "transposed", "sliced"]),
    block=st.sampled_from([1, 20, 1 << 18]),
    chunks=st.integers(1, 9),
    seed=st.integers(0, 2**20),
)
def test_gradients_are_those_of_automatic_differentiation(
    kind: str, scope: str, shape: list[int], samples: int, form: str, block: int, chunks: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    groups, c = 1 + seed % 3, (1 + seed % 3) * (1 + seed % 2)
    sizes = (samples, c, *shape, 3)
    n = math.prod(sizes) // {"batch": c, "instance": samples * c, "group": samples * groups}[scope]
    parameters = {"k": 1 + seed % n, "chunks": chunks}
    x, g = (torch.randn(sizes, generator=generator, dtype=torch.float64) + 1 for _ in range(2))
    vectors = [torch.randn(c, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2)]
    x, g = (laid_out(each, form) for each in (x, g))
    x.requires_grad_()
    right = expected(kind, x, vectors, scope, groups, **parameters)
    cotangents = (g, *(torch.randn(each.shape, generator=generator, dtype=torch.float64) for each in right[1:]))
    whole, blocks.BLOCK_ELEMENTS = blocks.BLOCK_ELEMENTS, block
    try:
        found = live_norm(x, *vectors, *how(kind, scope, groups, **parameters))
        ours = torch.autograd.grad(found, (x, *vectors), cotangents)
    finally:
        blocks.BLOCK_ELEMENTS = whole
    theirs = torch.autograd.grad(right, (x, *vectors), cotangents)
    for a, b in zip((*found, *ours), (*right, *theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_other_types_are_within_rounding(kind: str, dtype: torch.dtype) -> None:
    """One rounding to the type of x beside what float32 loses, 1e-5 of the largest; of many values, so without ties."""
    generator = torch.Generator().manual_seed(1)
    x = torch.linspace(-3, 3, 4 * 2 * 63).to(dtype)[torch.randperm(504, generator=generator)].reshape(4, 2, 63)
    g = torch.randn(x.shape, generator=generator).to(dtype)
    vectors = [torch.tensor(each).to(dtype) for each in ([0.7, 1.3], [0.1, 0.2])]
    results = []
    for work in (dtype, torch.float64):
        tensors = [each.to(work, copy=True).requires_grad_() for each in (x, *vectors)]
        y = live_norm(*tensors, *how(kind, "batch", 0, 1, 4))[0]
        results.append(torch.autograd.grad(y, tensors, g.to(work)))
    for found, right in zip(*results, strict=True):
        assert found.dtype == dtype
        error = (found.double() - right).abs() - torch.finfo(dtype).eps / 2 * right.abs()
        assert float(error.max()) <= 1e-5 * float(right.abs().max())


def slopes(kind: str, x: list[float], k: int, chunks: int) -> Tensor:
    """What the statistic gains with each x."""
    values = torch.tensor(x, dtype=torch.float64).reshape(-1, 1).requires_grad_()
    one = torch.ones(1, dtype=torch.float64)
    stat = live_norm(values, one, one, *how(kind, "batch", 0, k, chunks))[2]
    (slope,) = torch.autograd.grad(stat.sum(), values)
    return slope.flatten()


@pytest.mark.parametrize(
    ("kind", "k", "chunks", "unit", "shares"),
    [
        ("linf", 1, 1, extreme(5), [-1 / 2, 0, 0, 0, 1 / 2]),
        ("topk", 1, 1, extreme(5), [-1 / 2, 0, 0, 0, 1 / 2]),
        ("topk", 3, 1, extreme(5) / 3, [-1, -1 / 2, 0, 1 / 2, 1]),
        ("range", 1, 1, 0.35 * extreme(5), [-1, 0, 0, 0, 1]),
        ("l1", 1, 1, math.sqrt(math.pi / 2) / 5, [-1, -1, 0, 1, 1]),  # nothing at the mean itself
    ],
)
def test_equals_share_evenly(kind: str, k: int, chunks: int, unit: float, shares: list[float]) -> None:
    """By hand, about a mean of 0: the places among the largest are shared by those that tie for them."""
    found = slopes(kind, [-4.0, -1.0, 0.0, 1.0, 4.0], k, chunks) / unit
    np.testing.assert_allclose(found, np.array(shares) - np.mean(shares), rtol=0, atol=1e-12)


def test_equals_within_a_chunk_share_evenly() -> None:
    found = slopes("range", [5.0, 5.0, 1.0, 2.0, 2.0, 2.0], 1, 2) / (0.35 * extreme(3) / 2)
    # The second chunk is constant: its largest are its smallest.
    np.testing.assert_allclose(found, [1 / 2, 1 / 2, -1, 0, 0, 0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_one_element_has_no_gradient(kind: str) -> None:
    x = torch.tensor([[3.0, -2.0]], requires_grad=True)
    live_norm(x, torch.ones(2), torch.zeros(2), *how(kind, "batch", 0, 1, 4))[0].sum().backward()
    np.testing.assert_array_equal(x.grad, 0)


@pytest.mark.parametrize("groups", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_second_gradients_of_each_sample_match_finite_differences(kind: str, groups: int) -> None:
    generator = torch.Generator().manual_seed(2)
    tensors = [torch.randn(s, generator=generator, dtype=torch.float64) for s in ((2, 4, 3), (4,), (4,))]
    tensors = [each.requires_grad_() for each in tensors]
    assert torch.autograd.gradcheck(live_norm, (*tensors, *how(kind, "group" if groups else "instance", groups, 2, 2)))
    assert torch.autograd.gradgradcheck(
        live_norm, (*tensors, *how(kind, "group" if groups else "instance", groups, 2, 2))
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", [*(f"{TITLES[kind]}BatchNorm2d" for kind in KINDS), "L1InstanceNorm2d"])
def test_torch_compile_meets_pytorchs_own_operators_alone(name: str) -> None:
    """Forward and backward; and what it compiles computes what it compiled."""
    met: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        met.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return make_boxed_func(graph.forward)

    torch._dynamo.reset()
    norm = getattr(nxn, name)(4).train()
    aot = aot_autograd(fw_compiler=backend, bw_compiler=backend)
    x = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(3))
    gradients = []
    for call in (torch.compile(norm, backend=aot, fullgraph=True), norm):
        values = x.clone().requires_grad_()
        call(values).square().mul(torch.arange(6)).sum().backward()
        gradients.append(values.grad)
    assert len(met) > 10
    assert not [target for target in met if "normexport" in target]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_code_that_an_earlier_version_compiled_is_not_taken_from_the_disk(tmp_path: Path) -> None:
    """Of one version it is; PyTorch itself looks an operator up by its name, whatever it computes now."""
    script = """
import sys, torch
import normexport._version
normexport._version.__version__ = sys.argv[1]
from normexport import nn
norm, x = nn.L1BatchNorm2d(5), torch.randn(4, 5, 3, 3, requires_grad=True)
torch.compile(norm, fullgraph=True)(x).sum().backward()
counted = torch._dynamo.utils.counters["aot_autograd"]
print(counted["autograd_cache_hit"], counted["autograd_cache_miss"])
"""
    found = []
    for version in ("1", "1", "2"):
        command = [sys.executable, "-c", script, version]
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
        )
        if "InvalidCxxCompiler" in done.stderr:
            pytest.skip("inductor found no C++ compiler")
        assert done.returncode == 0, done.stderr
        found.append(done.stdout.split())
    assert found == [["0", "1"], ["1", "0"], ["0", "1"]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_compiled_norm_writes_its_result_once_and_no_tensor_beside_it(kind: str) -> None:
    """Of inductor's code, forward: one buffer of the size of x, the result."""
    from torch._inductor.utils import get_code

    torch._dynamo.reset()
    norm = getattr(nxn, f"{TITLES[kind]}BatchNorm2d")(4)
    x = torch.randn(8, 4, 32, 32, requires_grad=True)
    with torch._inductor.config.patch(force_disable_caches=True):
        forward = get_code(torch.compile(norm), x)[0]
    sizes = [ast.literal_eval(each) for each in re.findall(r"empty_strided_cpu\((\([^)]*\))", forward)]
    assert [size for size in sizes if math.prod(size) == x.numel()] == [x.shape]
