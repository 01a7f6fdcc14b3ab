"""Accuracy with its interval, the drop against a reference, and the modules that int8 hurts most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from normexport.errors import UsageError
from normexport.onnx_export import InputSpec
from normexport.precision import Half, Int8, Judged, Labelled, collect, measure_accuracy, reduce_precision
from normexport.precision.accuracy import wilson
from normexport.precision.int8.calibration import calibrate
from normexport.precision.int8.pairs import is_quantized
from normexport.precision.int8.sensitivity import rescue, sensitivities
from normexport.precision.labels import labels_in
from normexport.runtime import OnnxRuntime, Runtime
from tests.narrow import present
from tests.precision import nets

pytestmark = pytest.mark.slow

SPEC = InputSpec("input", (3, 12, 12))


class Uneven(nn.Module):
    """`spread` has one output channel a thousand times the others behind it: one scale per tensor can't hold both."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.spread = nn.Conv2d(8, 8, 1)
        self.gather = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        return self.head(torch.relu(self.gather(self.spread(x))).mean((2, 3)))


def uneven() -> nn.Module:
    torch.manual_seed(5)
    model = Uneven()
    with torch.no_grad():
        model.spread.weight[3] *= 3000
        present(model.spread.bias)[3] *= 3000
        model.gather.weight[:, 3] = 0
        model.gather.bias.zero_()
        model.head.bias.zero_()  # constants would hide that the rest is lost
    return model.eval()


def samples(count: int = 64) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, *SPEC.shape)).astype(np.float32)


def judged(model: ir.Model, count: int = 64) -> Judged:
    x = samples(count)
    (output,) = OnnxRuntime(model).run({"input": x}).values()
    return Judged({"input": x}, output.argmax(1))


@pytest.mark.parametrize(
    ("correct", "samples", "expected"),
    [(81, 263, (0.2553, 0.3662)), (0, 20, (0.0, 0.1611)), (29, 29, (0.8830, 1.0))],  # Newcombe 1998, table I
)
def test_the_interval_is_wilsons(correct: int, samples: int, expected: tuple[float, float]) -> None:
    assert wilson(correct, samples) == pytest.approx(expected, abs=6e-5)


def test_accuracy_agreement_and_drop_count_samples() -> None:
    model, _ = nets.folded(uneven)
    data = judged(model)
    assert isinstance(data.data, Mapping)
    labels = data.labels.copy()
    labels[:16] = (labels[:16] + 1) % 4
    found = collect(OnnxRuntime(model), data.data, model=model, batch=10)
    (name,) = found.outputs
    (exact,) = OnnxRuntime(model).run(data.data).values()
    np.testing.assert_allclose(found.values[name], exact, rtol=1e-5, atol=1e-6)
    changed = exact.copy()
    changed[20] = np.roll(changed[20], 1)
    reference = replace(found, values={name: changed})
    measured = measure_accuracy(found, Labelled(labels), reference)
    assert (measured.samples, measured.correct, measured.agreement) == (64, 48, 63 / 64)
    assert measured.drop == pytest.approx(100 * (47 - 48) / 64)
    assert measured.samples_per_second > 0


def test_sensitivities_name_the_module_whose_tensor_one_scale_can_not_hold() -> None:
    model, _ = nets.folded(uneven)
    ranges = calibrate(model, [{"input": samples()}], "minmax").ranges
    table = {each.path: each for each in sensitivities(model, ranges, {"input": samples(16)})}
    assert set(table) == {"first", "spread", "gather", "head"}
    worst = sorted(table, key=lambda path: table[path].alone)[:2]
    assert set(worst) <= {"spread", "gather"}  # one makes the tensor, the other reads it
    assert table["first"].alone > table[worst[0]].alone + 15


def test_the_worst_modules_are_left_out_until_the_limit_holds() -> None:
    model, _ = nets.folded(uneven)
    config = Int8(method="minmax", min_snr=25, effort="none")
    reduced = reduce_precision(model, config, [SPEC], judged=Judged({"input": samples()}))
    kept = [each.path for each in reduced.precision.kept]
    assert reduced.precision.passed
    assert "spread" in kept or "gather" in kept
    assert "first" not in kept
    curve = reduced.precision.curve
    assert curve[0].snr_db < 25 <= curve[-1].snr_db
    assert [len(step.excluded) for step in curve] == list(range(len(curve)))


def deep() -> nn.Module:
    torch.manual_seed(9)
    return nn.Sequential(nn.Conv2d(3, 4, 1), *(nn.Conv2d(4, 4, 1) for _ in range(11))).eval()


@pytest.mark.parametrize("enough", [0, 1, 4, 7, 11, 12, 13])
def test_of_many_modules_the_fewest_are_found_without_trying_every_number(enough: int) -> None:
    model, _ = nets.folded(deep)
    ranges = calibrate(model, [{"input": samples(8)}], "minmax").ranges

    def excluded(candidate: ir.Model, _: Runtime) -> tuple[float, None, bool]:
        count = sum(node.op_type == "Conv" and not is_quantized(node) for node in candidate.graph)
        return float(count), None, count >= enough

    result, curve = rescue(model, ranges, {"input": samples(4)}, excluded)
    assert len(result.excluded) == min(enough, 12)
    counts = [len(step.excluded) for step in curve]
    assert counts == sorted(set(counts))
    assert len(counts) <= 10
    ways = [set(step.excluded) for step in curve]
    assert all(less < more for less, more in pairwise(ways))


def test_with_labels_the_limit_is_the_drop_in_points() -> None:
    model, _ = nets.folded(uneven)
    many = judged(model, 800)  # 200 of them judge: as many as labels need to decide alone
    generous = reduce_precision(model, Int8(method="minmax", max_drop=100, effort="none"), [SPEC], judged=many)
    assert generous.precision.kept == ()
    assert present(generous.precision.accuracy.snr_db) < 0
    strict = reduce_precision(model, Int8(method="minmax", max_drop=0, effort="none"), [SPEC], judged=many)
    assert present(strict.precision.accuracy.drop) <= 0
    assert len(strict.precision.kept) >= 1


def test_half_precision_is_judged_on_labels_too() -> None:
    model, layers = nets.folded(uneven)
    reduced = reduce_precision(model, Half(), [SPEC], judged=judged(model), source=uneven(), layers=layers)
    assert reduced.parity.passed
    assert present(reduced.precision.accuracy.agreement) > 0.98
    assert present(reduced.precision.accuracy.snr_db) > 40


def test_calibration_data_and_cache_must_belong_together(tmp_path: Path) -> None:
    model, _ = nets.folded(uneven)
    cache = tmp_path / "cache.json"
    reduce_precision(model, Int8(list(samples(8)), "minmax", cache), [SPEC])
    again = reduce_precision(model, Int8(list(samples(8)), "minmax", cache), [SPEC])
    assert again.precision.notes[0] == f"ranges read from {cache}"
    with pytest.raises(UsageError, match="other data"):
        reduce_precision(model, Int8(list(samples(8) + 1), "minmax", cache), [SPEC])


@pytest.mark.parametrize(
    ("labels", "words"),
    [(np.full(64, 4), "sample 0 is 4"), (np.full(64, -1), "sample 0 is -1"), (np.zeros(3, int), "3, the samples 64")],
)
def test_labels_that_do_not_fit_are_one_clear_line(labels: np.ndarray, words: str) -> None:
    model, _ = nets.folded(uneven)
    found = collect(OnnxRuntime(model), {"input": samples()}, model=model)
    with pytest.raises(UsageError, match=words):
        measure_accuracy(found, Labelled(labels))


def test_labels_are_found_under_their_usual_names_and_must_be_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=samples(2), y=np.array([[1], [0]], np.uint8))
    np.testing.assert_array_equal(labels_in(tmp_path / "a.npz"), [1, 0])
    np.savez(tmp_path / "b.npz", x=samples(2))
    assert labels_in(tmp_path / "b.npz") is None
    wrong = ((np.float32(1), "of shape ()"), (np.array(["a"]), "<U1"), (np.array([1, np.nan]), "sample 1"))
    for labels, words in wrong:
        np.savez(tmp_path / "c.npz", labels=labels)
        with pytest.raises(UsageError) as raised:
            labels_in(tmp_path / "c.npz")
        assert words in str(raised.value)
