"""Capsules of half precision and int8 carry the limits that the file itself was judged by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

import normexport
from normexport import capsule, proof
from normexport.capsule import Signal, Within
from normexport.errors import UsageError
from normexport.precision import Half, Int8
from normexport.verdicts import Verdict
from tests.capsule import sealed_net
from tests.capsule.sealed_net import write

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "images.npz"
    rng = np.random.default_rng(8)
    np.savez(path, x=(rng.standard_normal((96, 3, 8, 8)) * 2 + 1).astype(np.float32))
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a float32 conversion whose capsule has room for a sample of its larger boundaries."""
    folder = tmp_path_factory.mktemp("small")
    converted(folder, None, capsule_bytes=20_000)
    return folder


class Scored(sealed_net.Headed):
    """Scores alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]  # one output instead of three
        return super().forward(x)[0]


def converted(folder: Path, precision: Half | Int8 | None, **config: Any) -> normexport.Conversion:
    torch.manual_seed(3)
    model = Scored()
    model.load_state_dict(sealed_net.trained().state_dict())
    sealed_net.saved(model.eval(), folder / "model.pt2")
    how = normexport.ConvertConfig(precision=precision, capsule=folder / "c.npz", **config)
    report = normexport.convert(folder / "model.pt2", folder / "out", config=how)
    assert report.passed
    return report


def scaled(model_path: Path, path: Path, factor: float) -> Path:
    model = onnx.load(model_path)
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.ndim == 2 and array.dtype.kind == "f":
            tensor.CopyFrom(numpy_helper.from_array((array * factor).astype(array.dtype), tensor.name))
    onnx.save(model, path)
    return path


def test_half_precision_is_held_to_its_own_budgets(tmp_path: Path) -> None:
    report = converted(tmp_path, Half("float16", "float16"))
    known = capsule.read(tmp_path / "c.npz")
    assert known.precision == "float16"
    budgets = {(row.batch, row.tensor): row.budget for row in report.parity.outputs}
    for run in known.runs:
        for output in run.outputs:
            assert output.rule.budget == budgets[run.name, output.name]
            assert output.dtype == "float16"
    assert capsule.prove(known, tmp_path / "out" / "model.onnx").judgement.passed
    wrong = scaled(tmp_path / "out" / "model.onnx", tmp_path / "wrong.onnx", 1.5)
    judged = capsule.prove(known, wrong)
    assert judged.judgement.verdict is Verdict.FAILED
    assert judged.first_divergence.path == "head"


def test_a_half_file_fails_by_a_float32_capsule_and_a_float32_file_passes_by_a_half_one(
    tmp_path: Path, small: Path
) -> None:
    converted(tmp_path, Half("bfloat16"))
    half, single = tmp_path / "out" / "model.onnx", small / "out" / "model.onnx"
    assert capsule.prove(tmp_path / "c.npz", half).judgement.passed
    assert capsule.prove(tmp_path / "c.npz", single).judgement.passed
    assert capsule.prove(small / "c.npz", half).judgement.verdict is Verdict.FAILED


def test_int8_is_held_to_a_ratio_at_each_output(tmp_path: Path, images: Path) -> None:
    converted(tmp_path, Int8(images, min_snr=15.0))
    known = capsule.read(tmp_path / "c.npz")
    (run,) = known.runs
    (output,) = run.outputs
    assert run.size == 64
    assert any("calibrated on" in note for note in known.notes)
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    (value,) = session.run(None, dict(run.feeds))
    noise = np.sqrt(np.mean((value.astype(np.float64) - output.values) ** 2))
    signal = np.sqrt(np.mean((output.values - output.values.mean(axis=0)) ** 2))
    ratio = 20 * np.log10(signal / noise)
    assert isinstance(output.rule, Signal)
    assert output.rule.min_db == pytest.approx(15.0 if ratio >= 15.0 else ratio - 1, abs=1e-3)
    judged = capsule.prove(known, tmp_path / "out" / "model.onnx")
    assert judged.judgement.passed
    assert judged.outputs[0].excess == pytest.approx(10 ** ((output.rule.min_db - ratio) / 20), rel=1e-3)
    flat = np.broadcast_to(output.values.mean(axis=0), output.values.shape)
    write(tmp_path / "flat.npz", {output.name: flat})
    assert capsule.prove(known, tmp_path / "flat.npz").judgement.verdict is Verdict.FAILED


def test_other_samples_than_those_that_calibrated_are_taken_where_there_are(tmp_path: Path, images: Path) -> None:
    rng = np.random.default_rng(9)
    np.savez(tmp_path / "test.npz", x=(rng.standard_normal((10, 3, 8, 8)) * 2 + 1).astype(np.float32))
    converted(tmp_path, Int8(images, min_snr=15.0), data=tmp_path / "test.npz")
    known = capsule.read(tmp_path / "c.npz")
    np.testing.assert_array_equal(known.runs[0].feeds["x"], np.load(tmp_path / "test.npz")["x"])
    assert not known.notes


def test_the_limit_leaves_out_the_largest_batches_then_refuses(tmp_path: Path) -> None:
    converted(tmp_path, None, capsule_bytes=7000)
    known = capsule.read(tmp_path / "c.npz")
    assert [run.size for run in known.runs] == [1, 2]
    assert known.boundaries == ()
    assert any("random x4, batch 7 is not in the capsule" in note for note in known.notes)
    assert any("3 module boundaries found no room" in note for note in known.notes)
    assert capsule.prove(known, tmp_path / "out" / "model.onnx").judgement.passed
    with pytest.raises(UsageError, match="--capsule-size"):
        converted(tmp_path, None, capsule_bytes=500)


def test_boundaries_without_room_are_sampled_and_still_name_where_it_went_wrong(tmp_path: Path, small: Path) -> None:
    known = capsule.read(small / "c.npz")
    arrays = [each for run in known.runs for each in (*run.feeds.values(), *(output.values for output in run.outputs))]
    arrays += [each for boundary in known.boundaries for each in (boundary.values, boundary.at) if each is not None]
    assert sum(each.nbytes for each in arrays) <= 20_000
    sampled = [boundary for boundary in known.boundaries if boundary.at is not None]
    assert [boundary.path for boundary in sampled] == ["norm", "second"]
    assert all(0 < len(boundary.values) < 7 * 8 * 64 for boundary in sampled)
    model = sealed_net.trained().double()
    (feeds,) = known.runs[known.boundary_run].feeds.values()
    whole = model.second(torch.relu(model.norm(model.conv(torch.from_numpy(feeds.astype(np.float64))))))
    (second,) = [boundary for boundary in sampled if boundary.path == "second"]
    np.testing.assert_allclose(second.values, whole.detach().numpy().reshape(-1)[second.at], rtol=1e-4, atol=1e-5)
    assert capsule.prove(known, small / "out" / "model.onnx").judgement.passed
    broken = onnx.load(small / "out" / "model.onnx")
    (weight,) = [each for each in broken.graph.initializer if each.name.startswith("second.weight")]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.001), weight.name))
    onnx.save(broken, tmp_path / "b.onnx")
    judged = capsule.prove(known, tmp_path / "b.onnx")
    assert (judged.judgement.verdict, judged.first_divergence.path) == (Verdict.FAILED, "second")


def test_nan_outside_of_a_sample_fails(tmp_path: Path, small: Path) -> None:
    known = capsule.read(small / "c.npz")
    boundary = next(each for each in known.boundaries if each.at is not None)
    whole = np.zeros(int(np.prod(boundary.shape)))
    whole[boundary.at] = boundary.values
    outputs = {f"{n}/{o.name}": o.values for n, run in enumerate(known.runs) for o in run.outputs}
    name = f"{known.boundary_run}/{boundary.name}"
    for special, verdict in ((0.0, Verdict.PASSED), (np.nan, Verdict.FAILED), (-np.inf, Verdict.FAILED)):
        unseen = next(place for place in range(len(whole)) if place not in set(boundary.at.tolist()))
        whole[unseen] = special
        write(tmp_path / "r.npz", {**outputs, name: whole.reshape(boundary.shape)})
        assert capsule.prove(known, tmp_path / "r.npz").judgement.verdict is verdict


def test_a_conversion_that_fails_writes_no_capsule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed_net.saved(sealed_net.trained(), tmp_path / "model.pt2")
    how = normexport.ConvertConfig(capsule=tmp_path / "c.npz")
    check_model = proof.check_model

    def wrong(model: torch.export.ExportedProgram, *args: Any, **kwargs: Any) -> normexport.ParityReport:
        return check_model(sealed_net.Headed().eval(), *args, **kwargs)

    monkeypatch.setattr(proof, "check_model", wrong)
    report = normexport.convert(tmp_path / "model.pt2", tmp_path / "out", config=how)
    assert not report.passed
    assert not (tmp_path / "c.npz").exists()
    assert tmp_path / "c.npz" not in report.files


def test_the_rules_are_of_the_outputs_kind(tmp_path: Path, images: Path) -> None:
    sealed_net.saved(sealed_net.trained(), tmp_path / "model.pt2")
    how = normexport.ConvertConfig(precision=Int8(images, min_snr=10.0), capsule=tmp_path / "c.npz")
    normexport.convert(tmp_path / "model.pt2", tmp_path / "out", config=how)
    outputs = capsule.read(tmp_path / "c.npz").runs[0].outputs
    assert [type(output.rule) for output in outputs] == [Signal, Within, Signal]
    assert capsule.prove(tmp_path / "c.npz", tmp_path / "out" / "model.onnx").judgement.passed
