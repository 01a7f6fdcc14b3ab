"""What a capsule says of candidates that are right, wrong, or not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from normexport import capsule
from normexport.capsule import Capsule, Reference, Run, Within
from normexport.capsule.candidates import ArraysCandidate
from normexport.errors import UsageError
from normexport.verdicts import Verdict
from tests.capsule.conftest import Sealed
from tests.narrow import present

pytestmark = pytest.mark.slow


def saved(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez(path, **arrays)
    return path


def test_the_file_it_was_made_with_passes_as_it_did(sealed: Sealed) -> None:
    report = capsule.prove(sealed.path, sealed.model)
    assert report.judgement.verdict is Verdict.PASSED
    parity = sealed.report.parity
    for told, row in zip((*report.outputs, *report.layers), (*parity.outputs, *parity.layers), strict=True):
        assert (told.tensor, told.path, told.batch, told.budget) == (row.tensor, row.path, row.batch, row.budget)
        assert told.excess == pytest.approx(row.excess)
    assert [row.path for row in report.layers] == ["norm", "second", "head"]


@pytest.mark.parametrize(
    ("weight", "factor", "path"), [("conv", 1.001, "norm"), ("second", 1.001, "second"), ("head", 1.01, "head")]
)
def test_a_channel_that_is_off_fails_at_its_module(
    sealed: Sealed, tmp_path: Path, weight: str, factor: float, path: str
) -> None:
    report = capsule.prove(sealed.path, sealed.broken(tmp_path / "b.onnx", weight, factor))
    assert report.judgement.verdict is Verdict.FAILED
    assert report.first_divergence.path == path
    assert f"{path}: is out of its budget" in " ".join(report.judgement.reasons)
    assert report.notes[0] == "b.onnx is another file than the capsule was made with"


def test_swapped_outputs_fail(sealed: Sealed, tmp_path: Path) -> None:
    model = onnx.load(sealed.model)
    outputs = list(model.graph.output)
    names = {outputs[0].name: outputs[2].name, outputs[2].name: outputs[0].name}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    shapes = [each.type for each in outputs]
    model.graph.output[0].type.CopyFrom(shapes[2])
    model.graph.output[2].type.CopyFrom(shapes[0])
    onnx.save(model, tmp_path / "swapped.onnx")
    assert capsule.prove(sealed.path, tmp_path / "swapped.onnx").judgement.verdict is Verdict.FAILED


def test_a_file_without_one_of_the_outputs_fails(sealed: Sealed, tmp_path: Path) -> None:
    model = onnx.load(sealed.model)
    gone = model.graph.output.pop()
    onnx.save(model, tmp_path / "two.onnx")
    report = capsule.prove(sealed.path, tmp_path / "two.onnx")
    assert report.judgement.verdict is Verdict.FAILED
    assert f"{gone.name}: " in report.judgement.reasons[0]
    assert "is missing" in report.judgement.reasons[0]


def test_an_output_of_another_type_fails(sealed: Sealed, tmp_path: Path) -> None:
    model = onnx.load(sealed.model)
    name = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["inner" if each == name else each for each in node.output]
        node.input[:] = ["inner" if each == name else each for each in node.input]
    model.graph.node.append(helper.make_node("Cast", ["inner"], [name], to=TensorProto.DOUBLE))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    onnx.save(model, tmp_path / "double.onnx")
    report = capsule.prove(sealed.path, tmp_path / "double.onnx")
    assert report.judgement.verdict is Verdict.FAILED
    assert "dtype float64, expected float32" in report.judgement.reasons[0]


def test_arrays_of_another_program_pass(sealed: Sealed, tmp_path: Path) -> None:
    report = capsule.prove(sealed.path, saved(tmp_path / "r.npz", sealed.arrays()))
    assert report.judgement.verdict is Verdict.PASSED
    assert len(report.outputs) == 9
    assert {reason for _, reason in report.unchecked} == {"is not in the candidate"}


@pytest.mark.parametrize("output", range(3))
def test_every_output_counts_whatever_its_type(sealed: Sealed, tmp_path: Path, output: int) -> None:
    arrays = sealed.arrays()
    name = [key for key in arrays if key.startswith("2/")][output]
    wrong = arrays[name].copy()
    wrong.reshape(-1)[-1] += 1
    report = capsule.prove(sealed.path, saved(tmp_path / "r.npz", arrays | {name: wrong}))
    assert report.judgement.verdict is Verdict.FAILED
    assert f"{name[2:]}: " in " ".join(report.judgement.reasons)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a * np.nan, "NaN differs"),
        (lambda a: np.where(a == a.max(), np.inf, a), "+inf differs"),
        (lambda a: a[:, :-1], "shape"),
        (lambda a: a.reshape(-1), "shape"),
        (lambda a: a.astype(np.int64), "dtype"),
        (lambda a: a.astype(np.complex64), "dtype"),
        (lambda a: a.astype("U8"), "dtype"),
        (lambda a: a * 0, "is out of its budget"),
        (lambda a: a[::-1], "is out of its budget"),
    ],
)
def test_wrong_arrays_fail(sealed: Sealed, tmp_path: Path, change: Callable[..., Any], words: str) -> None:
    arrays = sealed.arrays()
    name = next(key for key in arrays if key.startswith("2/"))
    report = capsule.prove(sealed.path, saved(tmp_path / "r.npz", arrays | {name: change(arrays[name])}))
    assert report.judgement.verdict is Verdict.FAILED
    assert words in " ".join(report.judgement.reasons)


def test_wider_arrays_of_another_program_pass(sealed: Sealed, tmp_path: Path) -> None:
    arrays = {
        name: array.astype(np.float64 if array.dtype.kind == "f" else np.int32)
        for name, array in sealed.arrays().items()
    }
    assert capsule.prove(sealed.path, saved(tmp_path / "r.npz", arrays)).judgement.passed


def test_boundaries_of_another_program_are_judged(sealed: Sealed, tmp_path: Path) -> None:
    known = capsule.read(sealed.path)
    first = known.boundaries[0]
    right = {f"{known.boundary_run}/{first.name}": first.values.astype(np.float32)}
    report = capsule.prove(known, saved(tmp_path / "right.npz", sealed.arrays() | right))
    assert report.judgement.passed
    assert first.path in [row.path for row in report.layers]
    wrong = {name: array * 1.001 for name, array in right.items()}
    report = capsule.prove(known, saved(tmp_path / "wrong.npz", sealed.arrays() | wrong))
    assert report.judgement.verdict is Verdict.FAILED
    assert report.first_divergence.tensor == first.name


def test_one_channel_that_is_off_fails_although_its_output_is_within_its_budget(sealed: Sealed) -> None:
    """Beside a channel a thousand times as large, nothing of a small one is seen in the whole."""
    rng = np.random.default_rng(2)
    right = rng.standard_normal((64, 2)) * [1000.0, 1.0]
    exact = Reference("y", right, Within(6e-3, 2e-2), right.shape, (0, 0, 0), dtype="float32")
    run = Run("real, batch 64", 64, {"x": np.zeros((64, 1), np.float32)}, (exact,))
    known = Capsule("float32", "r", "b", {"x": "float32"}, (run,), channels={"y": {1: np.array([1e-7, 1e-7])}})
    for factor, verdict in ((1 + 1e-7, Verdict.PASSED), (1.001, Verdict.FAILED)):
        stored = {"0/y": right * [1.0, factor]}
        plain: dict[str, Any] = {name: Plain(array) for name, array in stored.items()}
        candidate = ArraysCandidate(Path("a.npz"), plain, known)
        report = capsule.judge(known, candidate)
        assert report.judgement.verdict is verdict
        assert all(row.within for row in report.outputs if row.batch == run.name)


def test_an_output_that_is_always_the_same_proves_nothing(sealed: Sealed) -> None:
    right = np.full((8, 3), 2.0)
    exact = Reference("y", right, Within(1e-6, 1e-6), right.shape, (0, 0, 0), dtype="float32")
    run = Run("real, batch 8", 8, {"x": np.zeros((8, 1), np.float32)}, (exact,))
    known = Capsule("float32", "r", "b", {"x": "float32"}, (run,))
    plain: dict[str, Any] = {"y": Plain(right)}
    report = capsule.judge(known, ArraysCandidate(Path("a.npz"), plain, known))
    assert report.judgement.verdict is Verdict.INCONCLUSIVE


def test_what_the_conversion_could_not_prove_stays_unproven(sealed: Sealed, tmp_path: Path) -> None:
    known = replace(capsule.read(sealed.path), unproven=("a part was replaced on the way in",))
    capsule.write(known, tmp_path / "c.npz")
    report = capsule.prove(tmp_path / "c.npz", sealed.model)
    assert report.judgement.verdict is Verdict.INCONCLUSIVE
    assert report.judgement.reasons == known.unproven


def test_a_baseline_that_is_far_off_itself_proves_nothing(sealed: Sealed, tmp_path: Path) -> None:
    known = capsule.read(sealed.path)
    name = known.runs[0].outputs[0].name

    def loose(output: Reference) -> Reference:
        assert isinstance(output.rule, Within)
        own = present(output.rule.baseline)
        off = replace(own, rms=own.scale_rms / 20, max_abs=own.scale_max / 20)
        rule = Within(6 * off.rms, 6 * off.max_abs, off)
        return replace(output, rule=rule) if output.name == name else output

    runs = tuple(replace(run, outputs=tuple(map(loose, run.outputs))) for run in known.runs)
    doubtful = replace(known, runs=runs, boundaries=(), channels={})
    arrays = {key: array * (1.001 if key.endswith(name) else 1) for key, array in sealed.arrays().items()}
    report = capsule.prove(doubtful, saved(tmp_path / "r.npz", arrays))
    assert report.judgement.verdict is Verdict.INCONCLUSIVE
    assert "such a budget lets wrong results through" in report.judgement.reasons[0]


class Plain:
    """An array as a file has it."""

    def __init__(self, array: np.ndarray) -> None:
        self.shape, self.dtype, self._array = array.shape, array.dtype, array

    def read(self) -> np.ndarray:
        return self._array


def test_arrays_without_an_output_fail_and_without_any_prove_nothing(sealed: Sealed, tmp_path: Path) -> None:
    arrays = sealed.arrays()
    gone = next(key for key in arrays if key.startswith("1/"))
    left = {name: array for name, array in arrays.items() if name != gone}
    report = capsule.prove(sealed.path, saved(tmp_path / "less.npz", left))
    assert report.judgement.verdict is Verdict.FAILED
    assert gone in " ".join(report.judgement.reasons)
    for arrays in ({"zz": np.ones(3)}, {}):
        report = capsule.prove(sealed.path, saved(tmp_path / "none.npz", arrays))
        assert report.judgement.verdict is Verdict.INCONCLUSIVE
        assert not report.passed


def test_a_fixed_batch_is_judged_at_its_size_and_says_so(sealed: Sealed, tmp_path: Path) -> None:
    model = onnx.load(sealed.model)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(model, tmp_path / "two.onnx")
    report = capsule.prove(sealed.path, tmp_path / "two.onnx")
    assert report.judgement.passed
    assert {row.batch for row in report.outputs} == {"random x0.1, batch 2"}
    assert sum("was not judged: the candidate takes a batch of 2" in note for note in report.notes) == 2


def test_no_batch_that_the_candidate_takes_proves_nothing(sealed: Sealed, tmp_path: Path) -> None:
    model = onnx.load(sealed.model)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 3
    onnx.save(model, tmp_path / "three.onnx")
    assert capsule.prove(sealed.path, tmp_path / "three.onnx").judgement.verdict is Verdict.INCONCLUSIVE


def test_another_model_is_refused_by_its_inputs(sealed: Sealed, tmp_path: Path) -> None:
    model = onnx.load(sealed.model)
    old = model.graph.input[0].name
    model.graph.input[0].name = "other"
    for node in model.graph.node:
        node.input[:] = ["other" if name == old else name for name in node.input]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(UsageError, match="has no input x"):
        capsule.prove(sealed.path, tmp_path / "other.onnx")


def test_the_json_has_verdict_reasons_and_rows(sealed: Sealed, tmp_path: Path) -> None:
    report = capsule.prove(sealed.path, sealed.broken(tmp_path / "b.onnx", "head", 1.01))
    told = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert (told["passed"], told["verdict"], told["first_divergence"]) == (False, "failed", "head")
    assert told["reasons"]
    assert len(told["outputs"]) == 9
