"""What a capsule says of candidates that are right, wrong, or not there."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from normexport import capsule
from normexport.errors import UsageError
from normexport.verdicts import Verdict


def saved(path, arrays):
    np.savez(path, **arrays)
    return path


def test_the_file_it_was_made_with_passes_as_it_did(sealed):
    proof = capsule.prove(sealed.path, sealed.model)
    assert proof.judgement.verdict is Verdict.PASSED
    parity = sealed.report.parity
    by_run = sorted(parity.outputs, key=lambda row: [batch.name for batch in parity.batches].index(row.batch))
    for told, row in zip((*proof.outputs, *proof.layers), (*by_run, *parity.layers), strict=True):
        assert (told.tensor, told.path, told.batch, told.budget) == (row.tensor, row.path, row.batch, row.budget)
        assert told.excess == pytest.approx(row.excess)
    assert [row.path for row in proof.layers] == ["norm", "second", "head"]


@pytest.mark.parametrize(
    ("weight", "factor", "path"), [("conv", 1.001, "norm"), ("second", 1.001, "second"), ("head", 1.01, "head")]
)
def test_a_channel_that_is_off_fails_at_its_module(sealed, tmp_path, weight, factor, path):
    proof = capsule.prove(sealed.path, sealed.broken(tmp_path / "b.onnx", weight, factor))
    assert proof.judgement.verdict is Verdict.FAILED
    assert proof.first_divergence.path == path
    assert path in proof.judgement.reasons[0]
    assert proof.notes[0] == "b.onnx is another file than the capsule was made with"


def test_swapped_outputs_fail(sealed, tmp_path):
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


def test_a_file_without_one_of_the_outputs_fails(sealed, tmp_path):
    model = onnx.load(sealed.model)
    gone = model.graph.output.pop()
    onnx.save(model, tmp_path / "two.onnx")
    proof = capsule.prove(sealed.path, tmp_path / "two.onnx")
    assert proof.judgement.verdict is Verdict.FAILED
    assert f"output {gone.name}, " in proof.judgement.reasons[0]
    assert "is missing" in proof.judgement.reasons[0]


def test_an_output_of_another_type_fails(sealed, tmp_path):
    model = onnx.load(sealed.model)
    name = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["inner" if each == name else each for each in node.output]
        node.input[:] = ["inner" if each == name else each for each in node.input]
    model.graph.node.append(helper.make_node("Cast", ["inner"], [name], to=TensorProto.DOUBLE))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    onnx.save(model, tmp_path / "double.onnx")
    proof = capsule.prove(sealed.path, tmp_path / "double.onnx")
    assert proof.judgement.verdict is Verdict.FAILED
    assert "dtype float64, expected float32" in proof.judgement.reasons[0]


def test_arrays_of_another_program_pass(sealed, tmp_path):
    proof = capsule.prove(sealed.path, saved(tmp_path / "r.npz", sealed.arrays()))
    assert proof.judgement.verdict is Verdict.PASSED
    assert len(proof.outputs) == 9
    assert {reason for _, reason in proof.unchecked} == {"is not in the candidate"}


@pytest.mark.parametrize("output", range(3))
def test_every_output_counts_whatever_its_type(sealed, tmp_path, output):
    arrays = sealed.arrays()
    name = [key for key in arrays if key.startswith("2/")][output]
    wrong = arrays[name].copy()
    wrong.reshape(-1)[-1] += 1
    proof = capsule.prove(sealed.path, saved(tmp_path / "r.npz", arrays | {name: wrong}))
    assert proof.judgement.verdict is Verdict.FAILED
    assert f"output {name[2:]}, " in " ".join(proof.judgement.reasons)


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
        (lambda a: a * 0, "times its budget"),
        (lambda a: a[::-1], "times its budget"),
    ],
)
def test_wrong_arrays_fail(sealed, tmp_path, change, words):
    arrays = sealed.arrays()
    name = next(key for key in arrays if key.startswith("2/"))
    proof = capsule.prove(sealed.path, saved(tmp_path / "r.npz", arrays | {name: change(arrays[name])}))
    assert proof.judgement.verdict is Verdict.FAILED
    assert words in " ".join(proof.judgement.reasons)


def test_wider_arrays_of_another_program_pass(sealed, tmp_path):
    arrays = {
        name: array.astype(np.float64 if array.dtype.kind == "f" else np.int32)
        for name, array in sealed.arrays().items()
    }
    assert capsule.prove(sealed.path, saved(tmp_path / "r.npz", arrays)).judgement.passed


def test_boundaries_of_another_program_are_judged(sealed, tmp_path):
    known = capsule.read(sealed.path)
    first = known.boundaries[0]
    right = {f"{known.boundary_run}/{first.name}": first.values.astype(np.float32)}
    proof = capsule.prove(known, saved(tmp_path / "right.npz", sealed.arrays() | right))
    assert proof.judgement.passed
    assert first.path in [row.path for row in proof.layers]
    wrong = {name: array * 1.001 for name, array in right.items()}
    proof = capsule.prove(known, saved(tmp_path / "wrong.npz", sealed.arrays() | wrong))
    assert proof.judgement.verdict is Verdict.FAILED
    assert proof.first_divergence.tensor == first.name


def test_arrays_without_an_output_fail_and_without_any_prove_nothing(sealed, tmp_path):
    arrays = sealed.arrays()
    gone = next(key for key in arrays if key.startswith("1/"))
    left = {name: array for name, array in arrays.items() if name != gone}
    proof = capsule.prove(sealed.path, saved(tmp_path / "less.npz", left))
    assert proof.judgement.verdict is Verdict.FAILED
    assert gone in " ".join(proof.judgement.reasons)
    for arrays in ({"zz": np.ones(3)}, {}):
        proof = capsule.prove(sealed.path, saved(tmp_path / "none.npz", arrays))
        assert proof.judgement.verdict is Verdict.INCONCLUSIVE
        assert not proof.passed


def test_a_fixed_batch_is_judged_at_its_size_and_says_so(sealed, tmp_path):
    model = onnx.load(sealed.model)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(model, tmp_path / "two.onnx")
    proof = capsule.prove(sealed.path, tmp_path / "two.onnx")
    assert proof.judgement.passed
    assert {row.batch for row in proof.outputs} == {"random x0.1, batch 2"}
    assert sum("was not judged: the candidate takes a batch of 2" in note for note in proof.notes) == 2


def test_no_batch_that_the_candidate_takes_proves_nothing(sealed, tmp_path):
    model = onnx.load(sealed.model)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 3
    onnx.save(model, tmp_path / "three.onnx")
    assert capsule.prove(sealed.path, tmp_path / "three.onnx").judgement.verdict is Verdict.INCONCLUSIVE


def test_another_model_is_refused_by_its_inputs(sealed, tmp_path):
    model = onnx.load(sealed.model)
    old = model.graph.input[0].name
    model.graph.input[0].name = "other"
    for node in model.graph.node:
        node.input[:] = ["other" if name == old else name for name in node.input]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(UsageError, match="has no input x"):
        capsule.prove(sealed.path, tmp_path / "other.onnx")


def test_the_json_has_verdict_reasons_and_rows(sealed, tmp_path):
    proof = capsule.prove(sealed.path, sealed.broken(tmp_path / "b.onnx", "head", 1.01))
    told = json.loads(json.dumps(proof.as_dict(), allow_nan=False))
    assert (told["passed"], told["verdict"], told["first_divergence"]) == (False, "failed", "head")
    assert told["reasons"]
    assert len(told["outputs"]) == 9
