"""Data of many samples for a model whose batch is fixed: each run is a sample, in memory, from files, with labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from normexport.onnx_export import InputSpec
from normexport.precision import Int8, Judged, reduce_precision
from normexport.precision.reduced import Precision
from normexport.precision.samples import batches_of
from normexport.verdicts import Verdict
from tests.precision.judged_graphs import graph, weight


def model(batch: int) -> ir.Model:
    weights = {"v": weight(6, 16), "c": weight(16, seed=2), "w": weight(16, 4, seed=1), "b": weight(4, seed=3)}
    body = "h = Gemm(x, v, c) r = Relu(h) y = Gemm(r, w, b)"
    return graph(f"(float[{batch},6] x) => (float[{batch},4] y)", body, weights)


def samples(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 6)).astype(np.float32)


def spec(batch: int) -> InputSpec:
    return InputSpec("x", (batch, 6), batched=False)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_file_of_many_samples_is_read_a_fixed_batch_at_a_time(batch: int, tmp_path: Path) -> None:
    data = samples(12)
    np.savez(tmp_path / "data.npz", x=data)
    stream = batches_of(tmp_path / "data.npz", [spec(batch)], 8)
    found = [feeds["x"] for feeds in stream()]
    assert [each.shape for each in found] == [(batch, 6)] * (12 // batch)
    np.testing.assert_array_equal(np.concatenate(found), data)
    assert stream.count == 12 // batch


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("given", ["judged", "calibration", "both"])
def test_int8_calibrates_and_judges_on_all_of_it(batch: int, given: str, tmp_path: Path) -> None:
    data = samples(48)
    np.savez(tmp_path / "data.npz", x=data)
    calibration = tmp_path / "data.npz" if given != "judged" else None
    judged = Judged({"x": samples(96)[48:]}) if given != "calibration" else None
    found = reduced(batch, Int8(calibration, "minmax", min_snr=10), judged)
    assert found.judgement.verdict is Verdict.PASSED, found.judgement.reasons
    assert found.accuracy is not None
    judging = {"judged": 12, "calibration": 12 // batch, "both": 48}  # every 4th; of a stream, a run is a sample
    assert found.accuracy.samples == judging[given]
    assert (found.calibration or {})["samples"] == (36 if given == "judged" else 36 if given == "calibration" else 48)


@pytest.mark.parametrize("batch", [1, 2])
def test_labels_are_those_of_the_samples_that_judge(batch: int) -> None:
    """With every 4th run kept for judging, the labels of all others may be wrong."""
    data = samples(48)
    w = {"v": weight(6, 16), "c": weight(16, seed=2), "w": weight(16, 4, seed=1), "b": weight(4, seed=3)}
    labels = (np.maximum(data @ w["v"] + w["c"], 0) @ w["w"] + w["b"]).argmax(axis=1)
    judging = np.concatenate([np.arange(3 * batch, 4 * batch) + 4 * batch * turn for turn in range(12 // batch)])
    spoilt = (labels + 1) % 4
    spoilt[judging] = labels[judging]
    found = reduced(batch, Int8(None, "minmax"), Judged({"x": data}, spoilt, "y"))
    assert found.accuracy is not None
    assert found.accuracy.correct is not None
    assert found.accuracy.correct >= 0.9 * found.accuracy.samples  # int8 may change a close decision


def reduced(batch: int, config: Int8, judged: Judged | None) -> Precision:
    return reduce_precision(model(batch), config, [spec(batch)], judged=judged).precision
