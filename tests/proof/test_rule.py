"""The rule is fair and sharp: honest float32 candidates pass over families and seeds, small wrongs fail."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

from normexport.onnx_export import InputSpec
from normexport.proof import check_model
from normexport.proof.verdict import ParityReport
from tests.proof.nets import Affine, Norm, Writer, plain, residual, wide

pytestmark = pytest.mark.slow

IMAGE = (3, 12, 12)
#: A network, the shape of a sample, and how many seeds.
FAMILIES: dict[str, tuple[Callable[[], nn.Sequential], tuple[int, ...], int]] = {
    "tiny": (lambda: plain(2, 4, outputs=2), (3, 6, 6), 6),
    "one_output": (lambda: plain(1, 2, outputs=1), (3, 5, 5), 6),
    "fifty_convs": (lambda: plain(50, 12), (3, 8, 8), 2),
    "mean_100_sigma": (lambda: plain(6, 16, offset=100.0), IMAGE, 3),
    "deep_mean_100": (lambda: plain(20, 8, offset=100.0), (3, 8, 8), 2),
    "depthwise": (lambda: plain(10, 32, groups=32), IMAGE, 3),
    "residual": (lambda: residual(6, 12), IMAGE, 2),
    "long_average": (lambda: plain(1, 8), (3, 64, 64), 3),
    "longer_average": (lambda: plain(1, 4), (3, 128, 128), 2),
    "wide_linear": (lambda: wide([2048, 512, 10]), (2048,), 2),
    "one_wide_sum": (lambda: wide([4096, 16, 1]), (4096,), 3),
    "deep_linear": (lambda: wide([32] * 20 + [2]), (32,), 3),
}


def report_of(
    net: nn.Sequential,
    shape: tuple[int, ...],
    *,
    fold: bool = True,
    faults: dict[str, Callable[..., Any]] | None = None,
    seed: int = 0,
    data: dict[str, np.ndarray] | None = None,
) -> ParityReport:
    written = Writer(fold=fold, faults=faults or {}).write(net, shape)
    return check_model(net, ir.from_proto(written.model), written.layers, written.inputs, seed=seed, data=data)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("fold", [True, False], ids=["folded", "lowered"])
@pytest.mark.parametrize("family", FAMILIES)
def test_honest_float32_candidates_pass(family: str, fold: bool) -> None:
    make, shape, seeds = FAMILIES[family]
    for seed in range(seeds):
        torch.manual_seed(seed)
        report = report_of(make().eval(), shape, fold=fold, seed=seed)
        assert report.passed, (seed, report.first_divergence, report.worst)
        assert len(report.layers) >= 3


def test_normalized_inputs_with_a_mean_of_100_sigma_pass_on_real_data() -> None:
    """x - mean is exact in PyTorch for such x, A*x + B is 100 u off: no fault of the candidate."""
    for seed in range(3):
        torch.manual_seed(seed)
        net = wide([8, 32, 1], offset=100.0, first_norm=True)
        data = {"x": np.random.default_rng(seed).normal(100.0, 1.0, (20, 8)).astype(np.float32)}
        assert report_of(net, (8,), fold=False, data=data).passed


def eps_beside_the_root(affine: Affine) -> tuple[np.ndarray, np.ndarray]:
    """1/sqrt(scale^2 + eps) where 1/(scale + eps) was meant: 1e-5 off at scale 1."""
    scale = affine.norm.scale.double().numpy()
    a = affine.norm.weight.detach().double().numpy() / np.sqrt(scale**2 + affine.norm.eps)
    b = affine.norm.bias.detach().double().numpy() - affine.norm.mean.double().numpy() * a
    return dataclasses.replace(affine, a=a, b=b).folded()


def one_channel_of_b_off(affine: Affine) -> tuple[np.ndarray, np.ndarray]:
    b = affine.b.copy()
    b[1] += 1e-3
    return dataclasses.replace(affine, b=b).folded()


def one_channel_of_a_off(affine: Affine) -> tuple[np.ndarray, np.ndarray]:
    a = affine.a.copy()
    a[1] *= 1 + 1e-4
    return dataclasses.replace(affine, a=a).folded()


def two_channels_swapped(affine: Affine) -> tuple[np.ndarray, np.ndarray]:
    order = np.arange(len(affine.a))
    order[:2] = order[1::-1]
    return dataclasses.replace(affine, a=affine.a[order], b=affine.b[order]).folded()


def bias_not_scaled(affine: Affine) -> tuple[np.ndarray, np.ndarray]:
    weight, _ = affine.folded()
    return weight, affine.bias + affine.b


def mean_added(affine: Affine) -> tuple[np.ndarray, np.ndarray]:
    mean = affine.norm.mean.double().numpy()
    return dataclasses.replace(affine, b=affine.b + 2 * mean * affine.a).folded()


def rounded_to_half(affine: Affine) -> tuple[np.ndarray, np.ndarray]:
    weight, bias = affine.folded()
    return weight.astype(np.float16).astype(np.float64), bias


FAULTS = [
    one_channel_of_b_off,
    one_channel_of_a_off,
    two_channels_swapped,
    bias_not_scaled,
    mean_added,
    rounded_to_half,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("at", ["1", "7", "22"], ids=["first_norm", "third_norm", "last_norm"])
def test_one_small_wrong_in_one_of_eight_folds_fails_and_is_located(fault: Callable[..., Any], at: str) -> None:
    torch.manual_seed(3)
    report = report_of(plain(8, 16), IMAGE, faults={at: fault})
    assert not report.passed
    assert report.first_divergence.path == at
    assert report.first_divergence.type == "Norm"


@pytest.mark.parametrize("fault", [one_channel_of_b_off, two_channels_swapped, mean_added], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    ("make", "shape", "at"),
    [
        (lambda: plain(50, 12), (3, 8, 8), "16"),
        (lambda: residual(6, 12), IMAGE, "5.4"),
        (lambda: wide([2048, 512, 10]), (2048,), "1"),
        (lambda: plain(2, 4, outputs=2), (3, 6, 6), "4"),
        (lambda: plain(10, 32, groups=32), IMAGE, "16"),
    ],
    ids=["fifty_convs", "residual", "wide_linear", "tiny", "depthwise"],
)
def test_wrongs_are_located_in_deep_shallow_and_branched_nets(
    make: Callable[..., Any], shape: tuple[int, ...], at: str, fault: Callable[..., Any]
) -> None:
    torch.manual_seed(4)
    report = report_of(make(), shape, faults={at: fault})
    assert not report.passed
    assert report.first_divergence.path == at


@pytest.mark.parametrize("at", ["1", "7"], ids=["first_norm", "third_norm"])
def test_a_misplaced_epsilon_is_located_even_where_it_changes_five_in_a_million(at: str) -> None:
    """sigma near 1, eps 1e-5. At the eighth norm PyTorch's own error, times the factor, is as large as that."""
    torch.manual_seed(3)
    report = report_of(plain(8, 16), IMAGE, faults={at: eps_beside_the_root})
    assert not report.passed
    assert report.first_divergence.path == at


def test_a_small_sigma_makes_a_misplaced_epsilon_three_times_off() -> None:
    torch.manual_seed(5)
    conv = nn.Conv2d(3, 4, 3, bias=False)
    net = nn.Sequential(conv, Norm(4, sigma=1e-3), nn.ReLU())
    conv.weight.data *= 1e-3
    assert report_of(net, IMAGE).passed
    assert not report_of(net, IMAGE, faults={"1": eps_beside_the_root}).passed


def test_a_norm_folded_into_a_zero_padded_consumer_without_border_correction_fails() -> None:
    torch.manual_seed(6)
    norm, conv = Norm(3), nn.Conv2d(3, 8, 3, padding=1)
    net = nn.Sequential(norm, conv, nn.ReLU())
    a = (norm.inv_scale * norm.weight).detach()
    b = (norm.bias - norm.mean * norm.inv_scale * norm.weight).detach()
    naive = nn.Conv2d(3, 8, 3, padding=1)
    naive.weight.data = conv.weight.data * a.view(1, -1, 1, 1)
    naive.bias.data = conv.bias.data + (conv.weight.data * b.view(1, -1, 1, 1)).sum((1, 2, 3))
    written = Writer().write(nn.Sequential(naive, nn.ReLU()), IMAGE)
    report = check_model(net, ir.from_proto(written.model), (), [InputSpec("x", IMAGE)])
    assert not report.passed


def test_a_fault_that_only_one_batch_size_shows_fails() -> None:
    """A batch baked into the graph as an addition for sample 6 alone."""
    torch.manual_seed(7)
    net = nn.Sequential(nn.Linear(16, 4))
    written = Writer().write(net, (16,))
    graph = written.model.graph
    graph.initializer.append(onnx.numpy_helper.from_array(np.eye(4, dtype=np.float32)[:1] * 1e-3, "extra"))
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([6]), "six"))
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([7]), "seven"))
    graph.node[0].output[0] = "inner"
    sliced = onnx.helper.make_node("Slice", ["inner", "six", "seven"], ["seventh"])
    summed = onnx.helper.make_node("Mul", ["seventh", "extra"], ["bump"])
    total = onnx.helper.make_node("ReduceSum", ["bump"], ["sum"], keepdims=0)
    added = onnx.helper.make_node("Add", ["inner", "sum"], [written.outputs[0]])
    graph.node.extend([sliced, summed, total, added])
    report = check_model(net, ir.from_proto(written.model), (), written.inputs)
    assert {row.batch: row.passed for row in report.outputs} == {
        "random x1, batch 1": True,
        "random x0.1, batch 2": True,
        "random x4, batch 7": False,
    }
