"""Pairs whose two sides are written otherwise: other names, other operator sets, open sizes, whole numbers, fp8.

The witness of each fault is the emitted script in a process without normexport.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import numpy_helper, version_converter

import normexport
from normexport.narrowing.ports import named_as
from tests.narrowing.test_bisect import DICE, NET, net, shown, wrong_weight

#: With a second output before the head.
TWO = NET.replace("(float[N,5] y)", "(float[N,5] y, float[N,4,8,8] e)")


def two(change: Callable[[onnx.ModelProto], None] = lambda model: None) -> onnx.ModelProto:
    model = onnx.parser.parse_model(TWO)
    model.graph.initializer.extend(net().graph.initializer)
    change(model)
    return model


def renamed(model: onnx.ModelProto, names: Mapping[str, str]) -> onnx.ModelProto:
    for node in model.graph.node:
        for listed in (node.input, node.output):
            listed[:] = [names.get(name, name) for name in listed]
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)
    return model


def second_is_wrong(model: onnx.ModelProto) -> None:
    """The output e takes another function, and what the first output reads is as it was."""
    node = next(each for each in model.graph.node if each.output[0] == "e")
    node.output[0] = "inner"
    next(each for each in model.graph.node if each.output[0] == "m").input[0] = "inner"
    place = list(model.graph.node).index(node)
    model.graph.node.insert(place + 1, onnx.helper.make_node("Neg", ["inner"], ["e"]))


def found(reference: onnx.ModelProto, candidate: onnx.ModelProto, folder: Path) -> normexport.Bisection:
    onnx.save(reference, folder / "right.onnx")
    onnx.save(candidate, folder / "wrong.onnx")
    result = normexport.bisect(folder / "right.onnx", folder / "wrong.onnx", folder / "out")
    assert result.fault is not None
    run = shown(folder / "out")
    assert run.returncode == 1, run.stderr
    assert run.stderr.strip() == result.fault.shown
    return result


NAMES = {"x": "image", "y": "scores"}


def test_inputs_and_outputs_of_other_names_are_taken_by_their_places(tmp_path: Path) -> None:
    result = found(net(), renamed(net(wrong_weight), NAMES), tmp_path)
    assert result.fault is not None
    assert (result.fault.output, len(result.fault.nodes)) == ("c2", 1)
    assert result.notes == (
        "the candidate's input image is taken for x",
        "the candidate's output scores is taken for y",
    )


def test_equal_models_of_other_names_pass_with_what_was_taken_for_what(tmp_path: Path) -> None:
    result = normexport.bisect(ir.from_proto(net()), ir.from_proto(renamed(net(), NAMES)), tmp_path / "out")
    assert result.passed
    assert len(result.notes) == 2
    assert not (tmp_path / "out").exists()


def test_a_name_that_is_taken_inside_gives_way() -> None:
    """The candidate calls an inner value x, and its input otherwise."""
    candidate = ir.from_proto(renamed(net(), {"x": "image", "c1": "x"}))
    made, notes = named_as(candidate, ir.from_proto(net()))
    assert notes == ("the candidate's input image is taken for x",)
    onnx.checker.check_model(ir.to_proto(made), full_check=True)
    assert [value.name for value in candidate.graph.inputs] == ["image"]  # the caller's is as it was


@pytest.mark.parametrize("names", [{}, {"y": "e", "e": "y"}])
def test_the_same_names_in_another_order_stay(names: Mapping[str, str]) -> None:
    candidate = ir.from_proto(renamed(two(), names))
    made, notes = named_as(candidate, ir.from_proto(two()))
    assert made is candidate
    assert not notes


@pytest.mark.parametrize("names", [{}, {"y": "scores", "e": "map"}, {"e": "map"}])
def test_a_second_output_that_is_wrong_is_found_under_any_name(names: Mapping[str, str], tmp_path: Path) -> None:
    result = found(two(), renamed(two(second_is_wrong), names), tmp_path)
    assert result.fault is not None
    assert (result.fault.output, result.fault.operators[-1]) == ("e", "Neg")


@pytest.mark.parametrize("opset", [18, 23])
def test_another_operator_set_is_no_obstacle(opset: int, tmp_path: Path) -> None:
    result = found(net(), version_converter.convert_version(net(wrong_weight), opset), tmp_path)
    assert result.fault is not None
    assert result.fault.output == "c2"


def test_open_sizes_are_tried_at_those_that_are_given(tmp_path: Path) -> None:
    for name, change in (("right", lambda model: None), ("wrong", wrong_weight)):
        model = net(change)
        for axis, word in ((2, "H"), (3, "W")):
            model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = word
        onnx.save(model, tmp_path / f"{name}.onnx")
    both = tmp_path / "right.onnx", tmp_path / "wrong.onnx"
    result = normexport.bisect(*both, tmp_path / "out", ["x=3xHxW", "H=8..32", "W=8..32"])
    assert result.fault is not None
    assert result.fault.output == "c2"
    assert shown(tmp_path / "out").returncode == 1


WHOLE = """<ir_version: 10, opset_import: ["" : 20]> g (int64[N,6] x) => (int64[N,6] y, bool[N,6] b)
{{ a = Mul(x, three)
  y = {}(a, one)
  b = {}(a, one) }}"""


@pytest.mark.parametrize(("add", "less", "output"), [("Sub", "Less", "y"), ("Add", "Greater", "b")])
def test_whole_numbers_and_truth_values_are_told_by_how_many_differ(
    add: str, less: str, output: str, tmp_path: Path
) -> None:
    def whole(*operators: str) -> onnx.ModelProto:
        model = onnx.parser.parse_model(WHOLE.format(*operators))
        constants = {"three": np.int64(3), "one": np.int64(1)}
        model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())
        return model

    result = found(whole("Add", "Less"), whole(add, less), tmp_path)
    assert result.fault is not None
    assert result.fault.output == output
    assert " differ, by " in result.fault.words
    with np.load(tmp_path / "out" / "input.npz") as given:
        assert given["allowed"] == 0


def test_a_wrong_scale_of_fp8_is_found(tmp_path: Path) -> None:
    from normexport.precision.config import Fp8
    from normexport.precision.int8.calibration import calibrate
    from normexport.precision.int8.quantise import quantize
    from normexport.precision.int8.storage import Storage

    right = ir.from_proto(net())
    x = DICE.normal(size=(16, 3, 8, 8)).astype(np.float32)
    wrong = quantize(right, calibrate(right, [{"x": x}]).ranges, symmetric=True, storage=Storage.of(Fp8())).model
    chosen = next(each for each in wrong.graph if each.op_type == "DequantizeLinear")
    scale = chosen.inputs[1]
    assert scale is not None
    assert scale.const_value is not None
    scale.const_value = ir.tensor(scale.const_value.numpy() * np.float32(1.5), name=scale.name)
    np.savez(tmp_path / "x.npz", x=x)
    result = normexport.bisect(right, wrong, tmp_path / "out", data=tmp_path / "x.npz")
    assert result.fault is not None
    assert len(result.fault.nodes) <= 6
    assert "SNR" in result.fault.words
    assert shown(tmp_path / "out").returncode == 1
