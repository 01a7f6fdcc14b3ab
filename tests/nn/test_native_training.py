"""Training by the compiled kernels: what numpy computes in float64, and eager PyTorch at every edge."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import normexport
from normexport import nn as nxn
from normexport.errors import MissingComponent, UsageError
from normexport.nn import native
from normexport.nn.ops import live_norm
from normexport.nn.ops.native import native_norm
from normexport.plugins import kernels, training_call
from tests.narrow import present
from tests.nn.formulas import KINDS, TITLES, extreme
from tests.plugins.cpu.kernel_cases import needs_library

pytestmark = needs_library

EPS = 1e-3
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Which passes the compiled kernels ran."""
    seen: list[str] = []
    run = training_call.run

    def noted(*args: Any) -> None:
        seen.append(type(args[2]).__name__)
        run(*args)

    monkeypatch.setattr(training_call, "run", noted)
    yield seen
    assert native._chosen.kernels is None


def slopes(kind: str, d: np.ndarray, k: int, chunks: int) -> tuple[float, np.ndarray]:
    """The statistic of one channel's d (n,), and its derivative for each: among equals evenly."""
    n, size, sign = len(d), np.abs(d), np.sign(d)
    if kind == "l1":
        return math.sqrt(math.pi / 2) * size.mean(), math.sqrt(math.pi / 2) * sign / n
    if kind == "l2":
        sigma = max(math.sqrt((d * d).mean()), 1e-15)
        return sigma, d / (n * sigma)
    if kind in ("linf", "topk"):
        k, factor = (1 if kind == "linf" else k), extreme(max(n, 2))
        kth = np.sort(size)[n - k]
        share = np.where(size > kth, 1.0, np.where(size == kth, (k - (size > kth).sum()) / (size == kth).sum(), 0))
        return factor * np.sort(size)[n - k :].mean(), factor * share * sign / k
    length = max(2, math.ceil(n / chunks))
    starts, slope, span = range(0, n, length), np.zeros(n), 0.0
    for start in starts:
        piece = d[start : start + length]
        top, bottom = piece == piece.max(), piece == piece.min()
        slope[start : start + length] = top / top.sum() - bottom / bottom.sum()
        span += piece.max() - piece.min()
    factor = 0.35 * extreme(length) / len(starts)
    return factor * span, factor * slope


def step(kind: str, x: Tensor, grads: list[Tensor], scale: Tensor, bias: Tensor, **parameters: int) -> list[np.ndarray]:
    """(y, mean, stat, dx, dscale, dbias) of x (N, C, *space) in float64 numpy, channel by channel."""
    moved = [each.double().transpose(0, 1).flatten(1).numpy() for each in (x, grads[0])]
    y, dx = np.empty_like(moved[0]), np.empty_like(moved[0])
    vectors: list[tuple[float, ...]] = []
    for c, (row, g) in enumerate(zip(*moved, strict=True)):
        mean, n = row.mean(), len(row)
        d, w = row - mean, float(scale[c])
        stat, slope = slopes(kind, d, **parameters)
        a = w / (stat + EPS)
        y[c] = d * a + float(bias[c])
        worth = float(grads[2][c]) - (g * w * d).sum() / (stat + EPS) ** 2
        dx[c] = a * g + worth * slope + (float(grads[1][c]) - (a * g).sum() - worth * slope.sum()) / n
        vectors.append((mean, stat, (g * d).sum() / (stat + EPS), g.sum()))
    shape = (x.shape[1], x.shape[0], *x.shape[2:])
    back = [each.reshape(shape).swapaxes(0, 1) for each in (y, dx)]
    mean, stat, dscale, dbias = np.array(vectors).T
    return [back[0], mean, stat, back[1], dscale, dbias]


def ours(kind: str, x: Tensor, grads: list[Tensor], scale: Tensor, bias: Tensor, k: int, chunks: int) -> list[Tensor]:
    given = [each.detach().requires_grad_() for each in (x, scale, bias)]
    found = native_norm(*given, kind, EPS, 0.0, k, chunks)[:3]
    return [*(each.detach() for each in found), *torch.autograd.grad(found, given, grads)]


def eager(kind: str, x: Tensor, grads: list[Tensor], scale: Tensor, bias: Tensor, k: int, chunks: int) -> list[Tensor]:
    given = [each.detach().requires_grad_() for each in (x, scale, bias)]
    found = live_norm(*given, kind, False, EPS, 0.0, k, chunks, 0)
    return [*(each.detach() for each in found), *torch.autograd.grad(found, given, grads)]


def case(
    shape: tuple[int, ...], dtype: torch.dtype, seed: int, levels: int = 0
) -> tuple[Tensor, list[Tensor], Any, Any]:
    """x, of few values where `levels` says so, the gradients of the three results, scale and bias."""
    made = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=made, dtype=dtype)
    x = (x * levels).round() / 4 if levels else x * 2 + 1
    g = torch.randn(shape, generator=made, dtype=dtype)
    vectors = [torch.randn(shape[1], generator=made, dtype=dtype) for _ in range(4)]
    return x, [g, *vectors[:2]], vectors[2], vectors[3]


def laid_out(x: Tensor, last: bool) -> Tensor:
    return x.contiguous(memory_format=FORMATS[x.dim()]) if last and x.dim() in FORMATS else x


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    samples=st.integers(1, 5),
    channels=st.sampled_from([1, 2, 5, 16, 63, 70]),
    space=st.lists(st.integers(1, 9), min_size=0, max_size=3),
    last=st.booleans(),
    levels=st.sampled_from([0, 0, 1, 3]),
    chunks=st.integers(1, 9),
    seed=st.integers(0, 2**20),
)
def test_a_step_is_that_of_float64_numpy(
    kind: str,
    dtype: torch.dtype,
    samples: int,
    channels: int,
    space: list[int],
    last: bool,
    levels: int,
    chunks: int,
    seed: int,
) -> None:
    """In float32, within 32 roundings of the largest; equals are numbers whose d is exact, so that they tie in both."""
    shape = (2 * samples, channels, *space)
    n = math.prod(shape) // channels
    x, grads, scale, bias = case(shape, dtype, seed, levels)
    if levels:  # a mean of exactly 0
        x[samples:] = -x[:samples]
    x, grads[0] = laid_out(x, last), laid_out(grads[0], last and seed % 2 == 0)
    parameters = {"k": 1 + seed % n, "chunks": chunks}
    found = ours(kind, x, grads, scale, bias, **parameters)
    right = step(kind, x, grads, scale, bias, **parameters)
    assert found[0].stride() == x.stride() == found[3].stride()
    unit = 2.0**-24 if dtype == torch.float32 else 2.0**-53
    reach = float((np.abs(scale.double().numpy()) / (right[2] + EPS)).max())  # of an error of d or of g
    for name, a, b in zip(("y", "mean", "stat", "dx", "dscale", "dbias"), found, right, strict=True):
        largest = max(np.abs(b).max(), reach * float(x.abs().max()) if name == "y" else 0, 1.0)
        if name in ("dx", "dscale"):
            largest = largest * (1 + float(x.abs().max()) * reach)
        np.testing.assert_allclose(a.double().numpy(), b, rtol=0, atol=64 * unit * largest, err_msg=name)


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("kind", KINDS)
def test_large_tensors_of_many_pieces_too(kind: str, last: bool) -> None:
    """Several pieces a channel, rows that end within a vector, a ReLU's equals, an offset beside a small spread.

    Where d is within rounding of 0 its sign, and so L1's slope, is anybody's: such elements are left out.
    """
    for shape, levels in (((3, 3, 211, 199), 0), ((9, 70, 31, 37), 3), ((40, 300, 9, 9), 0)):
        x, grads, scale, bias = case(shape, torch.float32, 1, levels)
        x = laid_out(x.relu() if levels else x / 100 + 3, last)
        found = ours(kind, x, grads, scale, bias, 10, 16)
        wide = [each.double() for each in (x, *grads, scale, bias)]
        right = eager(kind, wide[0], wide[1:4], wide[4], wide[5], 10, 16)
        clear = (wide[0] - right[1].reshape(1, -1, 1, 1)).abs() > 1e-6
        assert clear.float().mean() > 0.99
        for name, a, b in zip(("y", "mean", "stat", "dx", "dscale", "dbias"), found, right, strict=True):
            error = (a.double() - b).abs() * (clear if name == "dx" else 1)
            assert error.max() <= 1e-4 * max(1.0, float(b.abs().max())), (name, shape)


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("kind", KINDS)
def test_results_do_not_depend_on_threads(kind: str, last: bool) -> None:
    for shape in ((3, 5, 130, 131), (16, 80, 30, 30)):
        x, grads, scale, bias = case(shape, torch.float32, 2)
        results, before = [], torch.get_num_threads()
        try:
            for threads in (1, 2, 3, 7):
                torch.set_num_threads(threads)
                results.append(ours(kind, laid_out(x, last), grads, scale, bias, 10, 16))
        finally:
            torch.set_num_threads(before)
        for other in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("where", ["x", "g"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_finite_spoils_what_it_spoils_in_eager(kind: str, value: float, where: str, last: bool) -> None:
    x, grads, scale, bias = case((4, 3, 9, 11), torch.float32, 3)
    (x if where == "x" else grads[0])[1, 1, 2, 3] = value
    x = laid_out(x, last)
    found, right = (step(kind, x, grads, scale, bias, 5, 4) for step in (ours, eager))
    for a, b in zip(found, right, strict=True):
        assert torch.equal(a.isfinite(), b.isfinite())
        assert torch.equal(a.isnan(), b.isnan()) or where == "g"
    assert all(each.select(0 if each.dim() == 1 else 1, 0).isfinite().all() for each in found)  # of another channel


@pytest.mark.parametrize("kind", KINDS)
def test_constant_channels_and_single_elements_give_bias_and_no_gradient(kind: str) -> None:
    for x in (torch.full((4, 2, 5, 3), 0.1), torch.randn(1, 2), torch.randn(1, 2, 1, 1)):
        n = x.numel() // 2
        g = torch.randn(x.shape)
        zero = torch.zeros(2)
        found = ours(kind, x, [g, zero, zero], torch.tensor([2.0, 3.0]), torch.tensor([0.5, -1.0]), 1, 1)
        right = eager(
            kind, x.double(), [g.double(), zero.double(), zero.double()], torch.tensor([2.0, 3.0]), zero, 1, 1
        )
        assert torch.equal(found[0], torch.tensor([0.5, -1.0]).reshape(1, 2, *[1] * (x.dim() - 2)).expand_as(x))
        if n == 1:
            assert found[3].abs().max() == 0
        else:  # divided by epsilon alone
            torch.testing.assert_close(found[3].double(), right[3], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4)])
@pytest.mark.parametrize("kind", KINDS)
def test_empty_tensors_have_empty_results(kind: str, shape: tuple[int, ...]) -> None:
    x, grads, scale, bias = case(shape, torch.float32, 0)
    for a, b in zip(*(f(kind, x, grads, scale, bias, 1, 1) for f in (ours, eager)), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_agree_with_finite_differences_and_so_do_theirs(kind: str) -> None:
    x, _, scale, bias = case((3, 2, 3, 2), torch.float64, 5)
    given = [each.requires_grad_() for each in (x, scale, bias)]

    def formula(*tensors: Tensor) -> tuple[Tensor, ...]:
        return native_norm(*tensors, kind, EPS, 0.0, 3, 2)[:3]

    assert torch.autograd.gradcheck(formula, given)
    assert torch.autograd.gradgradcheck(formula, given)


def module(kind: str, dims: int = 2, **how: Any) -> nxn.Norm:
    torch.manual_seed(4)
    made: nxn.Norm = getattr(nxn, f"{TITLES[kind]}BatchNorm{dims}d")(6, **how)
    with torch.no_grad():
        made.weight.uniform_(0.5, 2)
        made.bias.normal_()
    return made


def trained(norm: nxn.Norm, x: Tensor, g: Tensor, call: Any = None) -> list[Tensor]:
    """Two steps: y, gradients, buffers."""
    for _ in range(2):
        norm.zero_grad()
        x = x.detach().requires_grad_()
        y = (norm if call is None else call)(x)
        y.backward(g)
    grads = [present(present(each).grad) for each in (x, norm.weight, norm.bias)]
    return [y.detach(), *grads, *(each.clone().double() for each in norm.buffers())]


@pytest.mark.parametrize("size", [(64, 6), (64, 6, 17), (16, 6, 9, 8), (8, 6, 3, 9, 5)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_module_trains_as_without_them(kind: str, size: tuple[int, ...], steps: list[str]) -> None:
    how = {"chunks": 1} if kind == "range" else {}
    dims = {2: 1, 3: 1, 4: 2, 5: 3}[len(size)]
    x, g = torch.randn(size) * 3 + 1, torch.randn(size)
    right = trained(module(kind, dims, **how), x, g)
    assert not steps
    with normexport.nn.use_native_kernels():
        found = trained(module(kind, dims, **how), x, g)
    assert steps == ["NxForward", "NxBackward"] * 2
    for a, b in zip(found, right, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_they_are_switched_on_and_off_by_a_call_or_for_a_block_and_in_this_thread_alone() -> None:
    elsewhere: list[Any] = []
    try:
        nxn.use_native_kernels()
        assert native._chosen.kernels is not None
        thread = threading.Thread(target=lambda: elsewhere.append(native._chosen.kernels))
        thread.start()
        thread.join()
        with nxn.use_native_kernels(False):
            assert native._chosen.kernels is None
        assert native._chosen.kernels is not None
    finally:
        nxn.use_native_kernels(False)
    assert native._chosen.kernels is None
    assert elsewhere == [None]


def test_backward_may_come_after_the_block_and_from_any_layout(steps: list[str]) -> None:
    x = torch.randn(8, 6, 9, 9).contiguous(memory_format=torch.channels_last).requires_grad_()
    for g in (torch.ones(()).expand(8, 6, 9, 9), torch.randn(9, 6, 9, 8).transpose(0, 3)):
        norm = module("topk")
        with nxn.use_native_kernels():
            y = norm(x)
        (dx,) = torch.autograd.grad(y, x, g)
        (right,) = torch.autograd.grad(module("topk")(x), x, g)
        torch.testing.assert_close(dx, right, rtol=1e-4, atol=1e-5)
    assert steps == ["NxForward", "NxBackward"] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_code_calls_them_without_a_break_and_follows_the_switch(kind: str, steps: list[str]) -> None:
    torch.compiler.reset()
    norm, x, g = module(kind), torch.randn(16, 6, 9, 9), torch.randn(16, 6, 9, 9)
    call = torch.compile(norm, backend="aot_eager", fullgraph=True)
    right = trained(module(kind), x, g)
    with nxn.use_native_kernels():
        found = trained(norm, x, g, call)
    assert steps == ["NxForward", "NxBackward"] * 2
    for a, b in zip(found, right, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    trained(norm, x, g, call)
    assert len(steps) == 4


@pytest.mark.parametrize(
    ("norm", "x"),
    [
        (nxn.L1BatchNorm2d(6), torch.randn(4, 6, 5, 5).bfloat16()),
        (nxn.L1BatchNorm2d(6), torch.randn(4, 6, 5, 5).transpose(2, 3)),
        (nxn.L1InstanceNorm2d(6), torch.randn(4, 6, 5, 5)),
        (nxn.L1GroupNorm(2, 6), torch.randn(4, 6, 5, 5)),
        (nxn.RangeBatchNorm2d(6), torch.randn(4, 6, 5, 5)),  # of chunks of 7
    ],
    ids=["bfloat16", "transposed", "instance", "group", "short chunks"],
)
def test_other_calls_compute_as_ever(norm: Any, x: Tensor, steps: list[str]) -> None:
    x.requires_grad_()
    right = norm(x).float().square().sum()
    with nxn.use_native_kernels():
        found = norm(x).float().square().sum()
    found.backward()
    assert not steps
    assert torch.equal(found, right)


def test_transforms_and_exports_compute_as_ever(steps: list[str]) -> None:
    norm, x = nxn.L1BatchNorm2d(6, track_running_stats=False), torch.randn(4, 6, 5, 5)

    def loss(x: Tensor) -> Tensor:
        return norm(x).square().sum()

    with nxn.use_native_kernels():
        torch.func.grad(loss)(x)
        torch.func.jvp(loss, (x,), (x,))
        program = torch.export.export(norm, (x,))
    assert not steps
    assert "native_norm" not in str(program.graph)
    assert "live_norm" in str(program.graph)


def test_too_large_a_k_is_refused_as_in_eager() -> None:
    norm = nxn.TopKBatchNorm2d(2, k=9)
    with nxn.use_native_kernels(), pytest.raises(UsageError, match="9 largest of the 8 elements"):
        norm(torch.randn(2, 2, 2, 2))


def test_a_missing_library_is_one_line_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORMEXPORT_PLUGIN_DIR", str(tmp_path))
    kernels.load.cache_clear()
    try:
        with pytest.raises(MissingComponent, match="normexport plugins build"):
            nxn.use_native_kernels()
        nxn.use_native_kernels(False)  # needs none
    finally:
        kernels.load.cache_clear()
    assert native._chosen.kernels is None


def test_the_c_interface_refuses_what_it_can_not_compute() -> None:
    library = kernels.load()
    x = torch.zeros(2, 3, 4, 4)
    places = {name: x.data_ptr() for name in ("x", "scale", "bias", "y", "mean", "stat", "marks")}
    good = {"kind": 1, "type": 0, "batch": 2, "channels": 3, "space": 16, "k": 1, "chunks": 1}

    def refusal(tensors: dict[str, int], **other: int) -> str:
        norm = kernels.NxNorm(**{**good, **other})
        with pytest.raises(UsageError) as caught:
            training_call.run(library, norm, training_call.NxForward(**tensors, epsilon=0.1), 1)
        return str(caught.value)

    for name in places:
        assert "null" in refusal({other: at for other, at in places.items() if other != name})
    assert "no kernel" in refusal(places, type=1)
    assert "no kernel" in refusal(places, instance=1)
    assert "no kernel" in refusal(places, layout=2)
    assert "k <= elements" in refusal(places, kind=2, k=33)
    assert training_call.count_marks(library, kernels.NxNorm(**{**good, "kind": 3, "chunks": 4})) == 8
