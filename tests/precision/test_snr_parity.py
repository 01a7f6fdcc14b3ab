"""`check` judges an int8 file by the SNR of its outputs, with that of every boundary; wrong ones do not pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from normexport.checkpoint import Checkpoint
from normexport.io.onnx_model import save_onnx
from normexport.onnx_export import InputSpec
from normexport.precision import Int8, Limits, reduce_precision
from normexport.precision.file_precision import input_ranges, precision_of
from normexport.precision.snr_parity import SnrReport
from normexport.runtime import OnnxRuntime
from normexport.verbs.parity import check
from normexport.verdicts import Verdict
from tests.narrow import present
from tests.precision import nets
from tests.precision.judged_graphs import graph, weight

pytestmark = pytest.mark.slow

PASSED, FAILED, INCONCLUSIVE = Verdict.PASSED, Verdict.FAILED, Verdict.INCONCLUSIVE
SPEC = InputSpec("input", (3, 12, 12))


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.second = nn.Conv2d(8, 8, 3)
        self.a, self.b = nn.Linear(8, 4), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.relu(self.second(torch.relu(self.first(x)))).amax((2, 3))
        return self.a(x), self.b(x)


def two_heads() -> TwoHeads:
    torch.manual_seed(3)
    return TwoHeads().eval()


def images(count: int, seed: int = 0) -> np.ndarray:
    """Of all brightnesses in each channel: outputs that vary."""
    rng = np.random.default_rng(seed)
    return (rng.uniform(0, 1, (count, 3, 1, 1)) * rng.uniform(0.5, 1, (count, *SPEC.shape))).astype(np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[ir.Model, ir.Model, Path]:
    """The float32 model, the int8 one, and a file of images that are new to both."""
    model, _ = nets.folded(two_heads)
    reduced = reduce_precision(model, Int8(list(images(64)), "minmax"), [SPEC])
    assert reduced.precision.kept == ()
    path = tmp_path_factory.mktemp("data") / "data.npz"
    np.savez(path, input=images(48, seed=1))
    return model, reduced.model, path


def by_numpy(reference: np.ndarray, value: np.ndarray) -> np.float64:
    r, v = reference.astype(np.float64), value.astype(np.float64)
    return 10 * np.log10(np.square(r - r.mean(0)).sum() / np.square(v - r).sum())


def test_an_int8_file_passes_on_real_data_with_the_snr_that_numpy_computes(
    made: tuple[ir.Model, ir.Model, Path],
) -> None:
    model, int8, path = made
    report = check(model, int8, data=path, layers=True)
    assert isinstance(report, SnrReport)
    assert report.judgement.verdict is PASSED
    x = {"input": images(48, seed=1)}
    exact, got = OnnxRuntime(model).run(x), OnnxRuntime(int8).run(x)
    for error in report.outputs:
        assert error.snr_db == pytest.approx(by_numpy(exact[error.name], got[error.name]), abs=0.01)
    # The quantiser lets a convolution clip in place of the ReLU behind it: of the two, the ReLU's value is left.
    assert [layer.type for layer in report.layers].count("Relu") == 2
    assert {"a", "b"} <= {layer.path for layer in report.layers}
    assert all(present(layer.error.snr_db) > 20 for layer in report.layers)
    assert report.as_dict()["verdict"] == "passed"


def test_random_inputs_lie_where_the_input_quantiser_reaches(made: tuple[ir.Model, ir.Model, Path]) -> None:
    model, int8, _ = made
    low, high = input_ranges(int8)["input"]
    assert low == pytest.approx(0, abs=0.01)
    assert high == pytest.approx(1, abs=0.05)
    report = check(model, int8)
    assert not report.real
    assert report.judgement.verdict in (PASSED, INCONCLUSIVE)
    assert report.judgement.passed or "give --data" in report.judgement.reasons[-1]


def test_a_torch_reference_gives_the_same_judgement(made: tuple[ir.Model, ir.Model, Path], tmp_path: Path) -> None:
    model, int8, path = made
    reference = Checkpoint(tmp_path / "m.pt", "module", two_heads())
    report = check(reference, int8, [SPEC], data=path, layers=True)
    assert report.judgement.verdict is PASSED
    same = check(model, int8, data=path)
    assert isinstance(report, SnrReport)
    assert isinstance(same, SnrReport)
    for ours, theirs in zip(report.outputs, same.outputs, strict=True):
        assert ours.snr_db == pytest.approx(theirs.snr_db, abs=0.01)
    assert {layer.path for layer in report.layers} == {"a", "b"}


def broken(int8: ir.Model, where: str, how: Callable[..., Any]) -> ir.Model:
    """The int8 model with its initializers named `where` changed."""
    copy = int8.clone()
    names = [name for name in copy.graph.initializers if where in name]
    assert names
    for name in names:
        value = copy.graph.initializers[name]
        value.const_value = ir.Tensor(how(value.const_value.numpy().copy()), name=name)
    return copy


def halved(array: np.ndarray) -> np.ndarray:
    return array // 2 if array.dtype.kind in "iu" else array / 2


def shuffled(array: np.ndarray) -> np.ndarray:
    return array[::-1].copy() if array.ndim else array


WRONG = [
    ("b.weight_quantized", shuffled),
    ("b.weight_scale", halved),
    ("a.weight_quantized", halved),
    ("second.weight_quantized", shuffled),
]


@pytest.mark.parametrize(("where", "how"), WRONG)
def test_wrong_int8_files_fail_on_data_and_pass_on_nothing(
    where: str, how: Callable[..., Any], made: tuple[ir.Model, ir.Model, Path]
) -> None:
    model, int8, path = made
    wrong = broken(int8, where, how)
    real = check(model, wrong, data=path, layers=True)
    assert real.judgement.verdict is FAILED
    assert check(model, wrong).judgement.verdict in (FAILED, INCONCLUSIVE)


def test_the_limit_is_the_callers(made: tuple[ir.Model, ir.Model, Path]) -> None:
    model, int8, path = made
    assert check(model, int8, data=path, limits=Limits(min_snr=80)).judgement.verdict is FAILED


def test_the_first_boundary_below_the_limit_is_named(made: tuple[ir.Model, ir.Model, Path]) -> None:
    model, int8, path = made
    report = check(model, broken(int8, "second.weight_quantized", shuffled), data=path, layers=True)
    first, second = (layer for layer in report.layers if layer.type == "Relu")
    assert report.first_divergence is second
    assert present(first.error.snr_db) > 25


def test_precisions_are_read_off_the_graph(made: tuple[ir.Model, ir.Model, Path]) -> None:
    model, int8, _ = made
    plain = graph("(float[N,6] x) => (float[N,4] y)", "y = MatMul(x, w)", {"w": weight(6, 4)})
    cast = "h = Cast<to = 10>(x) z = Neg(h) y = Cast<to = 1>(z)"
    brain = "h = Cast<to = 16>(x) z = Neg(h) y = Cast<to = 1>(z)"
    io = "(float[N,6] x) => (float[N,6] y)"
    assert [precision_of(each) for each in (model, int8, plain)] == ["float32", "int8", "float32"]
    assert [precision_of(graph(io, body)) for body in (cast, brain)] == ["float16", "bfloat16"]


def test_files_on_disk_are_judged_as_models_in_memory(made: tuple[ir.Model, ir.Model, Path], tmp_path: Path) -> None:
    model, int8, path = made
    save_onnx(model, tmp_path / "a.onnx")
    save_onnx(int8, tmp_path / "b.onnx")
    report = check(tmp_path / "a.onnx", tmp_path / "b.onnx", data=path)
    assert [error.snr_db for error in report.outputs] == [e.snr_db for e in check(model, int8, data=path).outputs]
