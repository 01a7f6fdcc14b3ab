"""`convert` of ONNX models: the stages of a checkpoint from the fold on, proven against the model itself."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import normexport
from normexport import ConvertConfig, Half, Int8, Verdict
from normexport.folding import FoldResult
from normexport.precision.reduce import reduce_precision
from normexport.provenance.record import KEY
from normexport.verbs import convert_stages as stages
from normexport.verbs import float32_model
from tests.cli.conftest import save_plain
from tests.io import onnx_attacks as attacks

pytestmark = pytest.mark.slow


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """The path of a convolution, a BatchNormalization and a ReLU over "x" (N, 3, 8, 8)."""
    save_plain(tmp_path / "plain.onnx")
    return tmp_path / "plain.onnx"


def images(count: int = 6) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, 3, 8, 8)).astype(np.float32)


def answer(path: Path, **feeds: np.ndarray) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(path).run(None, feeds)


def content(given: ir.Model | onnx.ModelProto) -> bytes:
    return (ir.to_proto(given) if isinstance(given, ir.Model) else given).SerializeToString()


def model(
    nodes: Sequence[tuple[Any, ...]],
    inputs: Sequence[tuple[Any, ...]],
    outputs: Sequence[tuple[Any, ...]],
    constants: Mapping[str, np.ndarray],
    opset: int = 17,
) -> onnx.ModelProto:
    """A model; inputs and outputs are (name, type, shape)."""
    reads, gives = ([helper.make_tensor_value_info(*each) for each in side] for side in (inputs, outputs))
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph([helper.make_node(*node) for node in nodes], "g", reads, gives, weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    return made


def test_a_file_gives_what_a_checkpoint_gives(plain: Path, tmp_path: Path) -> None:
    result = normexport.convert(plain, tmp_path / "out")
    assert result.passed
    assert [outcome.fate for outcome in result.outcomes] == ["folded"]
    assert [node.op_type for node in onnx.load(tmp_path / "out" / "model.onnx").graph.node] == ["Conv", "Relu"]
    written = sorted(path.name for path in result.files)
    assert written == ["model.layers.json", "model.onnx", "report.html", "report.json"]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["verdict"], report["source"], report["path"]) == ("passed", "onnx", str(plain))
    assert report["parity"]["reference"] == "float64 interpreter"
    assert [stage for stage, _ in result.seconds] == ["load", "fold", "write", "parity"]
    x = images()
    np.testing.assert_allclose(
        answer(tmp_path / "out" / "model.onnx", x=x)[0], answer(plain, x=x)[0], rtol=1e-4, atol=1e-5
    )


def test_a_model_in_memory_gives_the_same_file_but_for_its_source_and_stays_as_it_is(
    plain: Path, tmp_path: Path
) -> None:
    normexport.convert(plain, tmp_path / "file")
    proto = onnx.load(plain)
    models: tuple[onnx.ModelProto | ir.Model, ...] = (proto, ir.from_proto(proto))
    for number, given in enumerate(models):
        before = content(given)
        normexport.convert(given, tmp_path / str(number))
        written, of_file = (onnx.load(tmp_path / name / "model.onnx") for name in (str(number), "file"))
        # What lies in no file has no hash to tell; all else is the same.
        (told,), (known,) = (
            [json.loads(each.value) for each in model.metadata_props if each.key == KEY] for model in (written, of_file)
        )
        assert (told.pop("source"), len(known.pop("source")), told == known) == ([], 1, True)
        for model in (written, of_file):
            del model.metadata_props[:]
        assert written.SerializeToString() == of_file.SerializeToString()
        assert content(given) == before


@pytest.mark.parametrize("file", [True, False])
def test_a_fold_that_computes_something_else_fails_and_gets_no_capsule(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: bool
) -> None:
    def wrong(graph: ir.Model, _: Any, **options: Any) -> Any:
        proto = ir.to_proto(graph)
        scale = next(each for each in proto.graph.initializer if each.name == "scale")
        scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(1.001), "scale"))
        return FoldResult(ir.from_proto(proto), (), (), True)

    monkeypatch.setattr(float32_model, "fold_recognised", wrong)
    how = ConvertConfig(capsule=tmp_path / "c.npz", precision=Half())
    result = normexport.convert(plain if file else onnx.load(plain), tmp_path / "out", config=how)
    assert result.judgement.verdict is Verdict.FAILED
    assert result.precision is None
    assert not (tmp_path / "c.npz").exists()


def test_half_precision_is_held_to_the_file_and_not_to_what_folding_made_of_it(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of folding and that of rounding are judged together, against the original."""
    seen = []
    inner = reduce_precision

    def watching(graph: ir.Model, *args: Any, source: Any, **kwargs: Any) -> Any:
        seen.append([node.op_type for node in source.graph])
        return inner(graph, *args, source=source, **kwargs)

    monkeypatch.setattr(stages, "reduce_precision", watching)
    result = normexport.convert(onnx.load(plain), tmp_path / "out", config=ConvertConfig(precision=Half()))
    assert seen == [["Conv", "BatchNormalization", "Relu"]]
    assert result.passed
    assert result.precision is not None
    assert result.precision.dtype == "float16"


def test_int8_says_here_how_many_samples_it_has_seen(plain: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=images(24))
    told = []
    how = ConvertConfig(precision=Int8(calibration=tmp_path / "data.npz"), data=tmp_path / "data.npz")
    result = normexport.convert(plain, tmp_path / "out", config=how, on_samples=lambda *words: told.append(words))
    assert told[-1] == (24, 24)
    assert result.precision is not None
    assert result.precision.integer_nodes
    assert "QuantizeLinear" in {node.op_type for node in onnx.load(tmp_path / "out" / "model.onnx").graph.node}


def test_a_capsule_of_a_file_judges_what_was_written_and_not_another(plain: Path, tmp_path: Path) -> None:
    normexport.convert(plain, tmp_path / "out", config=ConvertConfig(capsule=tmp_path / "c.npz"))
    assert normexport.prove(tmp_path / "c.npz", tmp_path / "out" / "model.onnx").passed
    changed = onnx.load(tmp_path / "out" / "model.onnx")
    weight = changed.graph.initializer[0]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
    onnx.save(changed, tmp_path / "other.onnx")
    assert not normexport.prove(tmp_path / "c.npz", tmp_path / "other.onnx").passed


def test_several_inputs_and_outputs_of_other_types_convert(tmp_path: Path) -> None:
    table = np.random.default_rng(0).normal(size=(11, 4)).astype(np.float32)
    made = model(
        [
            ("Gather", ["table", "ids"], ["e"]), ("Mul", ["e", "weight"], ["m"]),
            ("ReduceSum", ["m", "axis"], ["y"]), ("Greater", ["y", "zero"], ["positive"]),
        ],
        [("ids", 7, ["N", 3]), ("weight", 1, ["N", 3, 1])],
        [("y", 1, ["N", 3, 1]), ("positive", 9, ["N", 3, 1])],
        {"table": table, "axis": np.array([2]), "zero": np.array(0, np.float32)},
    )  # fmt: skip
    result = normexport.convert(made, tmp_path / "out")
    assert result.judgement.verdict is not Verdict.FAILED
    assert {row.tensor for row in result.parity.outputs} == {"y", "positive"}
    assert result.outcomes == ()
    feeds = {"ids": np.array([[0, 10, 5]]), "weight": np.ones((1, 3, 1), np.float32)}
    y, positive = answer(tmp_path / "out" / "model.onnx", **feeds)
    np.testing.assert_allclose(y[0, :, 0], table[[0, 10, 5]].sum(1), rtol=1e-5)
    assert (positive[0, :, 0] == (table[[0, 10, 5]].sum(1) > 0)).all()


@pytest.mark.parametrize("batch", [2, -1, "N"])
def test_a_batch_is_fixed_unknown_or_free(tmp_path: Path, batch: int | str) -> None:
    w = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    made = model([("MatMul", ["x", "w"], ["y"])], [("x", 1, ["N", 4])], [("y", 1, ["N", 5])], {"w": w})
    for value in (made.graph.input[0], made.graph.output[0]):
        first = value.type.tensor_type.shape.dim[0]
        first.Clear()
        if isinstance(batch, int):
            first.dim_value = batch
        else:
            first.dim_param = batch
    result = normexport.convert(made, tmp_path / "out")
    assert result.passed
    sizes = {row.batch.rpartition(" ")[2] for row in result.parity.outputs}
    assert len(sizes) == (1 if batch == 2 else 3)


def test_sizes_that_a_file_leaves_open_are_asked_for_or_taken_from_the_data(tmp_path: Path) -> None:
    w = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    ends = [("x", 1, ["N", 3, "H", "W"])], [("y", 1, ["N", 4, "h", "w_"])]
    onnx.save(model([("Conv", ["x", "w"], ["y"])], *ends, {"w": w}), tmp_path / "o.onnx")
    with pytest.raises(normexport.UsageError, match=r"input x: has open sizes .*--input x="):
        normexport.convert(tmp_path / "o.onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert normexport.convert(tmp_path / "o.onnx", tmp_path / "out", ["3x8x8"]).inputs[0].shape == (3, 8, 8)
    np.savez(tmp_path / "data.npz", x=images())
    found = normexport.convert(tmp_path / "o.onnx", tmp_path / "out", config=ConvertConfig(data=tmp_path / "data.npz"))
    assert found.inputs[0].shape == (3, 8, 8)
    assert found.parity.outputs[0].batch.startswith("real")


def test_external_data_is_read_and_is_not_written_over(plain: Path, tmp_path: Path) -> None:
    folder = tmp_path / "big"
    folder.mkdir()
    onnx.save(
        onnx.load(plain), folder / "model.onnx", save_as_external_data=True, location="model.onnx.data",
        size_threshold=0,
    )  # fmt: skip
    assert normexport.convert(folder / "model.onnx", tmp_path / "out").passed
    x = images()
    np.testing.assert_allclose(
        answer(tmp_path / "out" / "model.onnx", x=x)[0], answer(plain, x=x)[0], rtol=1e-4, atol=1e-5
    )
    before = {file: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(normexport.UsageError, match="would become the model, and is the model to convert"):
        normexport.convert(folder / "model.onnx", folder)
    os.rename(folder / "model.onnx", folder / "other.onnx")
    with pytest.raises(normexport.UsageError, match=r"would become the data of model.onnx, and is the data of other"):
        normexport.convert(folder / "other.onnx", folder)
    assert {file.read_bytes() for file in folder.iterdir()} == set(before.values())


def test_external_data_behind_links_is_read_where_that_is_allowed(plain: Path, tmp_path: Path) -> None:
    store, folder = tmp_path / "store", tmp_path / "snapshot"
    store.mkdir()
    folder.mkdir()
    onnx.save(onnx.load(plain), store / "blob.onnx", save_as_external_data=True, location="data.bin", size_threshold=0)
    for name in ("blob.onnx", "data.bin"):
        (folder / name).symlink_to(store / name)
    with pytest.raises(normexport.FoldError, match="weights-under"):
        normexport.convert(folder / "blob.onnx", tmp_path / "out")
    assert normexport.convert(folder / "blob.onnx", tmp_path / "out", config=ConvertConfig(weights_under=store)).passed


def test_a_file_that_kills_its_runtime_is_one_line_and_nothing_is_written(tmp_path: Path) -> None:
    path = attacks.write(attacks.lowest_by_minus_one(), tmp_path / "m.onnx")
    with pytest.raises(normexport.FoldError, match=r"m.onnx: the process that ran it was ended by SIG"):
        normexport.convert(path, tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


def half(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same in float16, inputs and outputs too."""
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    return proto


@pytest.mark.parametrize("precision", [Half(), Half("bfloat16"), Int8(method="norms")])
def test_what_is_in_half_precision_already_is_proven_and_not_reduced_again(
    plain: Path, tmp_path: Path, precision: Half | Int8
) -> None:
    onnx.save(half(onnx.load(plain)), tmp_path / "half.onnx")
    with pytest.raises(normexport.FoldError, match=r"half.onnx: computes in float16, not in float32; give the float32"):
        normexport.convert(tmp_path / "half.onnx", tmp_path / "out", config=ConvertConfig(precision=precision))
    assert normexport.convert(tmp_path / "half.onnx", tmp_path / "out").passed


def test_float32_networks_whose_weights_are_stored_in_half_precision_are_reduced(plain: Path, tmp_path: Path) -> None:
    proto = half(onnx.load(plain))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    casts = []
    for tensor in proto.graph.initializer:
        casts.append(helper.make_node("Cast", [f"{tensor.name}_16"], [tensor.name], to=onnx.TensorProto.FLOAT))
        tensor.name += "_16"
    for cast in reversed(casts):
        proto.graph.node.insert(0, cast)
    onnx.checker.check_model(proto, full_check=True)
    result = normexport.convert(proto, tmp_path / "out", config=ConvertConfig(precision=Half()))
    assert result.passed


def test_what_is_quantised_already_is_proven_and_not_reduced_again(plain: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=images(24))
    how = ConvertConfig(precision=Int8(), data=tmp_path / "data.npz")
    normexport.convert(plain, tmp_path / "int8", config=how)
    for precision in (Half(), Int8()):
        again = ConvertConfig(precision=precision, data=tmp_path / "data.npz")
        with pytest.raises(normexport.FoldError, match="is quantisation that the model brings along"):
            normexport.convert(tmp_path / "int8" / "model.onnx", tmp_path / "out", config=again)
    assert normexport.convert(tmp_path / "int8" / "model.onnx", tmp_path / "out").passed


def test_an_old_operator_set_is_left_behind_where_the_precision_needs_a_newer_one(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    constants = {"w": dice.normal(size=(8, 3, 3, 3)).astype(np.float32), "v": np.ones((8, 5), np.float32)}
    nodes = [("Conv", ["x", "w"], ["c"]), ("Relu", ["c"], ["r"]), ("GlobalAveragePool", ["r"], ["g"])]
    made = model(nodes, [("x", 1, ["N", 3, 8, 8])], [("g", 1, ["N", 8, 1, 1])], {"w": constants["w"]}, opset=9)
    made.graph.node.append(helper.make_node("Squeeze", ["g"], ["s"], axes=[2, 3]))
    made.graph.node.append(helper.make_node("MatMul", ["s", "v"], ["y"]))
    made.graph.initializer.append(numpy_helper.from_array(constants["v"], "v"))
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, ["N", 5]))
    onnx.save(made, tmp_path / "old.onnx")
    np.savez(tmp_path / "data.npz", x=images(48))
    how = ConvertConfig(precision=Int8(), data=tmp_path / "data.npz")
    result = normexport.convert(tmp_path / "old.onnx", tmp_path / "out", config=how)
    assert result.passed
    assert result.notes == ("taken from operator set 9 to 13, as the precision needs",)
    written = onnx.load(tmp_path / "out" / "model.onnx")
    assert written.opset_import[0].version == 13
    scales = [t for t in written.graph.initializer if "w" in t.name and "scale" in t.name]
    assert [list(scale.dims) for scale in scales] == [[8]]
    assert normexport.convert(tmp_path / "old.onnx", tmp_path / "out").notes == ()


def test_weights_under_means_nothing_for_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(normexport.UsageError, match="--weights-under: means nothing here: it is for an ONNX file"):
        normexport.convert(tmp_path / "m.pt2", tmp_path / "out", config=ConvertConfig(weights_under=tmp_path))


def test_a_damaged_file_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08\x0a\x12\xff\xff")
    with pytest.raises(normexport.FoldError, match=r"m.onnx: not an ONNX file, or cut short"):
        normexport.convert(tmp_path / "m.onnx", tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]
