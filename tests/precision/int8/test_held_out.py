"""What calibrates does not judge: parts of one set, samples in two sets, caches; and what is too few says so."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from normexport.onnx_export import InputSpec
from normexport.precision import Int8, Judged, reduce_precision
from normexport.precision.int8.held_out import Parted, digests_of, part_judged, part_stream
from normexport.precision.reduced import Precision
from normexport.precision.samples import batches_of
from normexport.runtime import OnnxRuntime
from normexport.verdicts import Verdict
from tests.narrow import present
from tests.precision.judged_graphs import graph, weight

PASSED, FAILED, INCONCLUSIVE = Verdict.PASSED, Verdict.FAILED, Verdict.INCONCLUSIVE
SPEC = InputSpec("x", (6,))
BODY = "h = Gemm(x, v, c) r = Relu(h) y = Gemm(r, w, b)"


def model(signature: str = "(float[N,6] x) => (float[N,4] y)") -> ir.Model:
    weights = {"v": weight(6, 16), "c": weight(16, seed=2), "w": weight(16, 4, seed=1), "b": weight(4, seed=3)}
    return graph(signature, BODY, weights)


def samples(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)


def int8(data: np.ndarray | None = None, judged: np.ndarray | None = None, **how: Any) -> Precision:
    judge = None if judged is None else Judged({"x": judged})
    return reduce_precision(
        model(), Int8(None if data is None else list(data), "minmax", **how), [SPEC], judged=judge
    ).precision


@pytest.mark.parametrize(("total", "judge"), [(8, 2), (9, 2), (64, 16), (255, 63), (1000, 64)])
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_every_4th_sample_of_calibration_data_is_kept_for_judging(total: int, judge: int, batch: int) -> None:
    data = samples(total)
    for source in (list(data), [{"x": each} for each in data]):
        parted = part_stream(batches_of(source, [SPEC], batch), [SPEC])
        calibrating = np.concatenate([feeds["x"] for feeds in parted.calibration()])
        kept = data[3:256:4]
        np.testing.assert_array_equal(judging(parted)["x"], kept)
        rest = {row.tobytes() for row in data} - {row.tobytes() for row in kept}
        assert {row.tobytes() for row in calibrating} == rest
        assert (len(kept), len(calibrating), parted.calibration.count) == (judge, total - judge, total - judge)
        assert parted.reason == ""


def judging(parted: Parted) -> Mapping[str, np.ndarray]:
    assert isinstance(parted.judging, Mapping)
    return parted.judging


def test_an_iterable_of_unknown_length_is_parted_too() -> None:
    class Endless:
        def __iter__(self) -> Iterator[Any]:
            return iter(samples(20))

    parted = part_stream(batches_of(Endless(), [SPEC], 8), [SPEC])
    assert len(judging(parted)["x"]) == 5
    assert parted.calibration.count == 15


def test_data_alone_is_parted_with_its_labels() -> None:
    data = samples(64)
    parted = part_judged({"x": data}, [SPEC], 8)
    np.testing.assert_array_equal(judging(parted)["x"], data[3::4])
    (output,) = OnnxRuntime(model()).run({"x": data}).values()
    judged = Judged({"x": data}, output.argmax(1))
    precision = reduce_precision(model(), Int8(method="minmax"), [SPEC], judged=judged).precision
    assert (precision.accuracy.samples, present(precision.calibration)["samples"]) == (16, 48)
    assert present(present(precision.accuracy).correct) >= 14  # the labels of the samples that judge, not the first 16


def test_calibrated_and_judged_apart_passes_and_says_how_many() -> None:
    precision = int8(samples(64))
    assert precision.judgement.verdict is PASSED
    assert precision.notes == ("judged on 16 of 64 samples, kept from calibration",)
    assert int8(judged=samples(64)).notes == ("calibrated on 48 samples and judged on 16 others, of 64",)


def test_fewer_than_8_samples_prove_nothing() -> None:
    for precision in (int8(samples(7)), int8(judged=samples(7)), int8(samples(1)), int8(judged=samples(1))):
        assert precision.judgement.verdict is INCONCLUSIVE
        assert any("--data" in reason for reason in precision.judgement.reasons)
    assert int8(samples(7), min_snr=200).judgement.verdict is FAILED


def test_samples_that_calibrated_do_not_judge() -> None:
    data, others = samples(64), samples(32, seed=1)
    mixed = np.concatenate([data[:10], others])
    precision = int8(data, mixed)
    assert precision.accuracy.samples == 32
    assert "10 of 42 samples calibrated too" in precision.notes[0]
    assert precision.judgement.verdict is PASSED
    same = int8(data, data[:32].astype(np.float64))
    assert same.judgement.verdict is INCONCLUSIVE
    assert "--data" in same.judgement.reasons[0]


def test_one_sample_given_many_times_does_not_judge_itself() -> None:
    data = np.concatenate([samples(2)] * 16)
    assert int8(data).judgement.verdict is INCONCLUSIVE


def test_a_cache_says_which_samples_it_has_seen(tmp_path: Path) -> None:
    cache = tmp_path / "cache.json"
    data = samples(64)
    first = int8(judged=data, cache=cache)
    assert len(json.loads(cache.read_text())["seen"]) == 48
    again = int8(judged=data, cache=cache)
    assert again.accuracy.samples == first.accuracy.samples == 16
    assert again.accuracy.snr_db == first.accuracy.snr_db
    assert int8(judged=data[:3], cache=cache).judgement.verdict is INCONCLUSIVE
    assert int8(judged=samples(20, seed=5), cache=cache).accuracy.samples == 20


def test_a_model_of_a_fixed_batch_is_judged_over_runs() -> None:
    fixed = model("(float[1,6] x) => (float[1,4] y)")
    spec = InputSpec("x", (1, 6), batched=False)
    reduced = reduce_precision(fixed, Int8(list(samples(40)[:, None]), "minmax", min_snr=15), [spec])
    assert reduced.precision.judgement.verdict is PASSED
    error = reduced.precision.accuracy.outputs[0]
    kept = samples(40)[3::4]
    exact, got = (
        np.concatenate([OnnxRuntime(each).run({"x": x[None]})["y"] for x in kept]) for each in (fixed, reduced.model)
    )
    expected = 10 * np.log10(np.square(exact - exact.mean(0)).sum() / np.square(got - exact).sum())
    assert error.snr_db == pytest.approx(expected, abs=0.01)


def test_digests_tell_samples_by_all_that_the_model_reads() -> None:
    specs = [SPEC, InputSpec("i", (), "int64")]
    data = {"x": samples(3), "i": np.array([1, 2, 3])}
    other = {"x": samples(3), "i": np.array([1, 2, 4])}
    a, b = digests_of(data, specs), digests_of(other, specs)
    assert a[:2] == b[:2]
    assert a[2] != b[2]
    assert len(set(a)) == 3
