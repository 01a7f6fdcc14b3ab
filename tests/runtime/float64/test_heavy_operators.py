"""Convolutions and pools of the interpreter, with torch and without, against torch's own modules in float64."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
import torch.nn.functional as F

from normexport.runtime import Float64Runtime
from normexport.runtime.float64.operators import convolution

BOTH = pytest.mark.parametrize("with_torch", [True, False], ids=["torch", "numpy"])


def run(node: str, x: np.ndarray, *weights: np.ndarray, with_torch: bool = True) -> np.ndarray:
    rank = ", ".join("?" * x.ndim)
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 20]> g (double[{rank}] x) => (double[{rank}] y) {{ y = {node} }}'
    )
    model.graph.initializer.extend(onnx.numpy_helper.from_array(w, "wb"[i]) for i, w in enumerate(weights))
    return Float64Runtime(model, torch=with_torch).run({"x": x})["y"]


@BOTH
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("groups", "filters"), [(1, 2), (2, 2), (3, 4), (6, 1), (6, 3)])
def test_conv_of_any_groups(rank: int, groups: int, filters: int, with_torch: bool) -> None:
    rng = np.random.default_rng(rank + 10 * groups)
    x = rng.standard_normal((2, 6, 7, 6, 5)[: 2 + rank])
    w, b = (
        rng.standard_normal((groups * filters, 6 // groups, 3, 2, 2)[: 2 + rank]),
        rng.standard_normal(groups * filters),
    )
    how = f"group = {groups}, strides = {[2] * rank}, pads = {[1] * 2 * rank}, dilations = {[2] * rank}"
    got = run(f"Conv <{how}> (x, w, b)", x, w, b, with_torch=with_torch)
    conv: Any = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[rank]
    want = conv(*map(torch.from_numpy, (x, w, b)), stride=2, padding=1, dilation=2, groups=groups)
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-12, atol=1e-12)


@BOTH
@pytest.mark.parametrize("columns", [1, 100, 700, 10_000])
def test_blocks_of_any_size_are_one_convolution(
    monkeypatch: pytest.MonkeyPatch, columns: int, with_torch: bool
) -> None:
    monkeypatch.setattr(convolution, "_COLUMNS", columns)
    rng = np.random.default_rng(columns)
    x, w = rng.standard_normal((5, 3, 9, 8)), rng.standard_normal((4, 3, 3, 3))
    got = run("Conv <strides = [2, 1], pads = [1, 0, 2, 1]> (x, w)", x, w, with_torch=with_torch)
    want = F.conv2d(F.pad(torch.from_numpy(x), (0, 1, 1, 2)), torch.from_numpy(w), stride=(2, 1))
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_conv_transpose_of_any_groups(rank: int, groups: int) -> None:
    rng = np.random.default_rng(rank + 10 * groups)
    x = rng.standard_normal((2, 6, 5, 4, 3)[: 2 + rank])
    w, b = rng.standard_normal((6, 2, 3, 2, 2)[: 2 + rank]), rng.standard_normal(2 * groups)
    got = run(
        f"ConvTranspose <group = {groups}, strides = {[2] * rank}, pads = {[1] * 2 * rank},"
        f" output_padding = {[1] * rank}> (x, w, b)",
        x,
        w,
        b,
    )
    conv: Any = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}[rank]
    want = conv(*map(torch.from_numpy, (x, w, b)), stride=2, padding=1, output_padding=1, groups=groups)
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_max_pool_of_any_dilation(rank: int, dilation: int) -> None:
    x = np.random.default_rng(rank).standard_normal((2, 3, 9, 8, 7)[: 2 + rank])
    got = run(
        f"MaxPool <kernel_shape = {[3] * rank}, strides = {[2] * rank}, pads = {[1] * 2 * rank},"
        f" dilations = {[dilation] * rank}> (x)",
        x,
    )
    pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[rank]
    np.testing.assert_array_equal(got, pool(torch.from_numpy(x), 3, 2, 1, dilation).numpy())


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_global_max_pool_reduces_all_of_space(rank: int) -> None:
    x = np.random.default_rng(rank).standard_normal((2, 3, 5, 4, 6)[: 2 + rank])
    np.testing.assert_array_equal(run("GlobalMaxPool(x)", x), x.max(tuple(range(2, x.ndim)), keepdims=True))


@BOTH
def test_erf_and_gelu_are_torchs(with_torch: bool) -> None:
    x = np.linspace(-6, 6, 101)
    np.testing.assert_allclose(run("Erf(x)", x, with_torch=with_torch), torch.erf(torch.from_numpy(x)), rtol=1e-14)
    want = F.gelu(torch.from_numpy(x))
    np.testing.assert_allclose(run("Gelu(x)", x, with_torch=with_torch), want, rtol=1e-12, atol=1e-15)


@pytest.mark.slow
def test_a_copy_of_a_process_that_torch_computed_in_does_not_wait_for_its_threads() -> None:
    code = """
import numpy as np, onnx.parser, torch
from normexport.runtime import Float64Runtime
from normexport.runtime.guarded import in_child
torch.set_num_threads(2)
torch.nn.functional.conv2d(torch.ones(4, 8, 64, 64).double(), torch.ones(64, 8, 3, 3).double())
model = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 20]>'
    'g (double[?,?,?,?] x, double[?,?,?,?] w) => (double[?,?,?,?] y) { y = Conv(x, w) }')
feeds = {"x": np.ones((4, 8, 64, 64)), "w": np.ones((64, 8, 3, 3))}
print(in_child(lambda: float(Float64Runtime(model).run(feeds)["y"].sum()), "x"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert float(done.stdout) == 4 * 64 * 62 * 62 * 72
