"""int8 without data: ranges from norms against those of data, where they come from, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import normexport
from normexport.errors import UsageError
from normexport.folding import fold
from normexport.graphs.moments import KEY
from normexport.onnx_export import InputSpec
from normexport.precision import Int8, Judged
from normexport.precision.int8.from_norms import calibrate_by_norms
from normexport.precision.reduce import reduce_precision
from normexport.runtime import OnnxRuntime
from normexport.verdicts import Verdict
from tests.folding.build import GraphBuilder

SEED = 5
SPEC = InputSpec("x", (3, 16, 16))


def images(count: int, low: float = 0.0, high: float = 1.0, seed: int = 0) -> np.ndarray:
    """Images of 2 by 2 patches, each of one colour: neighbours are alike, as in any image."""
    colours = np.random.default_rng(seed).uniform(low, high, (count, 3, 2, 2))
    return np.kron(colours, np.ones((8, 8))).astype(np.float32)


def network(data: np.ndarray, *, normed: bool = True) -> ir.Model:
    """Convolution, norm, ReLU, pool, convolution, norm, ReLU, mean, linear; the norms know `data`."""
    rng = np.random.default_rng(SEED)  # one of its own: tests run in any order
    graph = GraphBuilder(np.float32)
    value, sizes = graph.input(("N", 3, 16, 16)), [(12, 3), (16, 12)]
    for index, (rows, columns) in enumerate(sizes):
        value = graph.node("Conv", [value, graph.const(rng.normal(0, 0.3, (rows, columns, 3, 3)))], pads=[1, 1, 1, 1])
        if normed:
            graph.output(value)
            built = ir.from_proto(graph.model())
            found = list(OnnxRuntime(built).run({"x": data}).values())[-1]
            graph.outputs.clear()
            statistics = found.mean(axis=(0, 2, 3)), found.var(axis=(0, 2, 3))
            affine = rng.uniform(0.5, 1.5, rows), rng.normal(0, 0.5, rows)
            value = graph.node("BatchNormalization", [value, *(graph.const(each) for each in (*affine, *statistics))])
        value = graph.node("Relu", [value])
        if index == 0:
            value = graph.node("MaxPool", [value], kernel_shape=[2, 2], strides=[2, 2])
    value = graph.node("Flatten", [graph.node("GlobalAveragePool", [value])])
    graph.output(graph.node("Gemm", [value, graph.const(rng.normal(0, 1, (16, 10)))]))
    return ir.from_proto(graph.model())


DATA = images(64)
MODEL = fold(network(DATA)).model


def test_ranges_are_near_those_of_data() -> None:
    found = calibrate_by_norms(MODEL, [SPEC])
    names = [str(value.name) for node in MODEL.graph for value in node.outputs]
    seen = OnnxRuntime(MODEL).run({"x": DATA}, names)
    last = MODEL.graph.outputs[0].name
    inner = {name: each for name, each in found.calibration.ranges.items() if name not in ("x", last)}
    assert len(inner) >= 7
    for name, (low, high) in inner.items():
        widest = np.abs(seen[name]).max()
        pooled = name.startswith(("globalaveragepool", "flatten"))
        most = 4.0 if pooled else 3.0  # of features that fill the image, 1.3
        assert 0.7 * widest < max(abs(low), abs(high)) < most * widest, name
    assert found.calibration.samples == 0
    assert sorted(set(found.origins.values())) == ["bound", "norm", "propagated"]


def test_the_result_is_right_on_data_that_it_has_never_seen() -> None:
    reduced = reduce_precision(
        MODEL, Int8(method="norms", min_snr=20.0), [SPEC], judged=Judged({"x": images(64, seed=1)})
    )
    assert reduced.precision.judgement.verdict is Verdict.PASSED
    assert reduced.precision.kept == ()
    assert reduced.precision.integer_nodes >= 3
    assert reduced.precision.calibration is not None
    assert reduced.precision.calibration["samples"] == 0


def test_without_data_the_file_is_made_and_nothing_is_claimed() -> None:
    reduced = reduce_precision(MODEL, Int8(method="norms"), [SPEC])
    assert reduced.precision.judgement.verdict is Verdict.INCONCLUSIVE
    assert reduced.precision.judgement.reasons == ("no data judged it; give --data",)
    assert any(node.op_type == "QuantizeLinear" for node in reduced.model.graph)
    assert KEY in MODEL.metadata_props  # of float tensors: not what int8 holds
    assert KEY not in reduced.model.metadata_props
    before, after = (OnnxRuntime(each).run({"x": DATA}) for each in (MODEL, reduced.model))
    (exact,), (found,) = before.values(), after.values()
    spread = exact - exact.mean(axis=0)
    assert 10 * np.log10((spread**2).sum() / ((found - exact) ** 2).sum()) > 15


def test_a_file_with_everything_in_float32_makes_no_claim_of_its_tensors_either() -> None:
    reduced = reduce_precision(MODEL, Int8(method="norms", keep=("*",)), [SPEC])
    assert reduced.precision.integer_nodes == 0
    assert KEY not in reduced.model.metadata_props
    assert KEY in MODEL.metadata_props


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.0, 1.0, "0 to 1,"),
        (-1.7, 1.7, "-2.2 to 2.7,"),
        (0.0, 255.0, "0 to 255,"),
        (-9.0, -7.0, "deviations to either side"),
    ],
)
def test_the_input_s_range_is_the_usual_one_that_the_first_norm_implies(low: float, high: float, words: str) -> None:
    folded = fold(network(images(32, low, high))).model
    found = calibrate_by_norms(folded, [SPEC])
    assert any(words in note for note in found.notes), found.notes
    assert found.calibration.ranges["x"][0] <= low + 0.01 * (high - low)
    assert found.calibration.ranges["x"][1] >= high - 0.01 * (high - low)


def test_channels_that_training_switched_off_say_nothing_of_the_input() -> None:
    """Their weights are next to nothing, and of what they say four digits are kept."""
    model = fold(network(images(64, -1.0, 1.0))).model
    told = json.loads(model.metadata_props[KEY])
    first = next(node for node in model.graph if node.op_type == "Conv")
    weight, bias = (np.array(value.const_value.numpy()) for value in first.inputs[1:3])
    moments = told[str(first.outputs[0].name)]
    for channel in range(4):
        weight[channel] *= 1e-6
        moments["std"][channel] *= 1e-6
        bias[channel], moments["mean"][channel] = -0.51234, -0.5123
    for value, array in zip(first.inputs[1:3], (weight, bias), strict=True):
        value.const_value = ir.Tensor(array, name=value.name)
    model.metadata_props[KEY] = json.dumps(told)
    found = calibrate_by_norms(model, [SPEC])
    assert found.calibration.ranges["x"] == (-1.0, 1.0), found.notes


def test_declared_bounds_are_the_input_s_range() -> None:
    spec = InputSpec("x", (3, 16, 16), bounds=(-0.5, 3.0))
    found = calibrate_by_norms(MODEL, [spec])
    assert found.calibration.ranges["x"] == (-0.5, 3.0)
    assert any("as declared" in note for note in found.notes)


def test_modules_whose_range_no_norm_tells_are_listed() -> None:
    graph = GraphBuilder(np.float32)
    x = graph.input(("N", 4, 8))
    norm = [graph.const(each) for each in (np.ones(4), np.zeros(4), np.zeros(4), np.ones(4))]
    value = graph.node("Relu", [graph.node("BatchNormalization", [x, *norm])])
    scores = graph.node("MatMul", [value, graph.node("Transpose", [value], perm=[0, 2, 1])])
    last = graph.node("MatMul", [scores, graph.const(np.random.default_rng(SEED).normal(size=(4, 5)))])
    graph.output(last)
    reduced = reduce_precision(ir.from_proto(graph.model()), Int8(method="norms"), [InputSpec("x", (4, 8))])
    assert [each.reason for each in reduced.precision.kept] == [f"no norm tells the range of {scores}: data would"]
    assert any("1 module would need data" in note for note in reduced.precision.notes)


@pytest.mark.parametrize("spoilt", ["no norms", "damaged"])
def test_a_model_that_tells_nothing_is_refused_in_one_line(spoilt: str) -> None:
    model = network(DATA, normed=False) if spoilt == "no norms" else fold(network(DATA)).model
    if spoilt == "damaged":
        model.metadata_props[KEY] = '{"x": 3}'
    with pytest.raises(UsageError) as caught:
        reduce_precision(model, Int8(method="norms"), [SPEC])
    assert "\n" not in str(caught.value)
    assert ("no norms with statistics" if spoilt == "no norms" else "fold the model again") in str(caught.value)


@pytest.mark.parametrize("how", [{"calibration": [DATA[0]]}, {"cache": Path("c.json")}, {"method": "guess"}])
def test_what_means_nothing_without_data_is_refused(how: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Int8(**{"method": "norms", **how})


def test_convert_writes_the_file_and_says_that_nothing_judged_it(tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    ir.save(network(DATA), source)
    config = normexport.ConvertConfig(precision=Int8(method="norms"))
    done = normexport.convert(source, tmp_path / "out", config=config)
    assert done.judgement.verdict is Verdict.INCONCLUSIVE
    written = ir.load(tmp_path / "out" / "model.onnx")
    assert any(node.op_type == "DequantizeLinear" for node in written.graph)
    assert done.precision is not None
    assert any(note.startswith("ranges: 2 by norms") for note in done.precision.notes)


def test_a_capsule_of_it_needs_data(tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    ir.save(network(DATA), source)
    config = normexport.ConvertConfig(precision=Int8(method="norms"), capsule=tmp_path / "c.npz")
    with pytest.raises(UsageError, match="needs real samples"):
        normexport.convert(source, tmp_path / "out", config=config)
    assert not (tmp_path / "out" / "model.onnx").exists()
