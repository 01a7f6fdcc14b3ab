"""Seeded faults, found: the emitted script, in a process without normexport, is the witness."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import numpy_helper

import normexport
from normexport.errors import ExitCode, UsageError
from normexport.io.onnx_model import opened_model
from normexport.narrowing import rules
from normexport.narrowing.cut import cuts_of, needed, sub_model, varying
from normexport.narrowing.rules import RUNTIME
from normexport.runtime import Array, Float64Runtime, OnnxRuntime

DICE = np.random.default_rng(0)
WEIGHTS: dict[str, Array] = {
    "w1": DICE.normal(size=(4, 3, 3, 3)).astype(np.float32) / 5,
    "w2": DICE.normal(size=(4, 4, 3, 3)).astype(np.float32) / 6,
    "w3": DICE.normal(size=(4, 5)).astype(np.float32),
}
#: A residual network that ends in a quotient, with names at every value.
NET = """<ir_version: 10, opset_import: ["" : 20]> g (float[N,3,8,8] x) => (float[N,5] y)
{ c1 = Conv<pads = [1,1,1,1]>(x, w1)
  r1 = Relu(c1)
  c2 = Conv<pads = [1,1,1,1]>(r1, w2)
  d = Sub(c2, r1)
  e = Exp(d)
  m = ReduceMean<keepdims = 0>(e, axes)
  y = MatMul(m, w3) }"""

Change = Callable[[onnx.ModelProto], None]


def net(change: Change = lambda model: None) -> onnx.ModelProto:
    model = onnx.parser.parse_model(NET)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in WEIGHTS.items())
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    change(model)
    return model


def node(model: onnx.ModelProto, output: str) -> onnx.NodeProto:
    return next(each for each in model.graph.node if each.output[0] == output)


def wrong_weight(model: onnx.ModelProto) -> None:
    tensor = next(each for each in model.graph.initializer if each.name == "w2")
    array = numpy_helper.to_array(tensor).copy()
    array[1, 2, 0, 0] += 0.3
    tensor.CopyFrom(numpy_helper.from_array(array, "w2"))


def wrong_pad(model: onnx.ModelProto) -> None:
    next(each for each in node(model, "c2").attribute if each.name == "pads").ints[:] = [2, 1, 0, 1]


def swapped(model: onnx.ModelProto) -> None:
    node(model, "d").input[:] = ["r1", "c2"]


def not_a_number(model: onnx.ModelProto) -> None:
    node(model, "e").op_type = "Log"


def other_input(model: onnx.ModelProto) -> None:
    node(model, "d").input[:] = ["c2", "c1"]


def shown(folder: Path) -> subprocess.CompletedProcess[str]:
    """The script, isolated: no folder of this repository can be imported."""
    command = [sys.executable, "-I", "-c", "import runpy; runpy.run_path('show.py')"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("change", "output"),
    [(wrong_weight, "c2"), (wrong_pad, "c2"), (swapped, "d"), (not_a_number, "e"), (other_input, "d")],
)
def test_a_seeded_fault_is_found_at_its_node_and_shown_without_normexport(
    change: Change, output: str, tmp_path: Path
) -> None:
    onnx.save(net(), tmp_path / "right.onnx")
    onnx.save(net(change), tmp_path / "wrong.onnx")
    result = normexport.bisect(tmp_path / "right.onnx", tmp_path / "wrong.onnx", tmp_path / "out")
    assert result.fault is not None
    assert result.judgement.verdict.exit_code == ExitCode.FAILED
    assert (result.fault.output, len(result.fault.nodes), result.fault.whose) == (output, 1, "graph")
    script = (tmp_path / "out" / "show.py").read_text()
    assert len(script.splitlines()) == 5
    assert "normexport" not in script
    run = shown(tmp_path / "out")
    assert run.returncode == 1, run.stderr
    assert run.stderr.strip() == result.fault.shown
    onnx.checker.check_model(tmp_path / "out" / "bisect.onnx", full_check=True)
    with np.load(tmp_path / "out" / "input.npz") as given:
        assert sum(given[name].size for name in given if name.startswith("input_")) <= 2 * 4 * 9


def test_what_is_expected_is_what_the_reference_computes_there(tmp_path: Path) -> None:
    """The witness: onnx's own reference implementation, on the right node."""
    from onnx.reference import ReferenceEvaluator

    result = normexport.bisect(ir.from_proto(net()), ir.from_proto(net(swapped)), tmp_path / "out")
    assert result.fault is not None
    with np.load(tmp_path / "out" / "input.npz") as given:
        expected, fed = given["expected"], [given[f"input_{index}"] for index in range(2)]
    part = onnx.load(tmp_path / "out" / "bisect.onnx")
    names = [each.name for each in part.graph.input]
    assert dict(zip(names, fed, strict=True))["c2"] - dict(zip(names, fed, strict=True))["r1"] == pytest.approx(
        expected
    )
    (wrong,) = ReferenceEvaluator(part).run(None, dict(zip(names, fed, strict=True)))
    assert wrong == pytest.approx(-expected)


def test_where_nothing_differs_nothing_is_written(tmp_path: Path) -> None:
    result = normexport.bisect(ir.from_proto(net()), ir.from_proto(net()), tmp_path / "out")
    assert result.passed
    assert result.fault is None
    assert not (tmp_path / "out").exists()


def test_an_error_within_the_budget_is_no_fault(tmp_path: Path) -> None:
    def one_roundoff(model: onnx.ModelProto) -> None:
        tensor = next(each for each in model.graph.initializer if each.name == "w2")
        tensor.CopyFrom(numpy_helper.from_array(np.nextafter(WEIGHTS["w2"], np.float32(9)), "w2"))

    assert normexport.bisect(ir.from_proto(net()), ir.from_proto(net(one_roundoff)), tmp_path / "out").fault is None


def test_an_overflow_of_float16_is_found_where_it_happens(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["" : 20]> g ({0}[N,8] x) => ({0}[N,8] y)
    {{ a = Tanh(x) b = Mul(a, big) c = Mul(b, big) d = Mul(c, small) y = Neg(d) }}"""
    for kind, dtype in (("float", np.float32), ("float16", np.float16)):
        model = onnx.parser.parse_model(text.format(kind))
        constants = {"big": dtype(300), "small": dtype(1e-3)}
        model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())
        onnx.save(model, tmp_path / f"{'half' if kind == 'float16' else 'wide'}.onnx")
    result = normexport.bisect(tmp_path / "wide.onnx", tmp_path / "half.onnx", tmp_path / "out")
    assert result.fault is not None
    assert (result.fault.output, result.fault.operators[0]) == ("c", "Mul")
    assert not np.isfinite(result.fault.times)
    assert shown(tmp_path / "out").returncode == 1


@pytest.mark.parametrize("side", ["activation", "weight"])
def test_a_wrong_zero_point_is_found_in_five_nodes_at_most(side: str, tmp_path: Path) -> None:
    right = ir.from_proto(net())
    x = DICE.normal(size=(16, 3, 8, 8)).astype(np.float32)
    from normexport.precision.int8.calibration import calibrate
    from normexport.precision.int8.quantise import quantize

    wrong = quantize(right, calibrate(right, [{"x": x}]).ranges).model
    pairs = [each for each in wrong.graph if each.op_type == "DequantizeLinear"]
    constant = side == "weight"
    chosen = next(
        each for each in pairs if (each.inputs[0].const_value is not None) == constant and len(each.inputs) > 2
    )
    zero = chosen.inputs[2].const_value
    moved = np.where(zero.numpy() > 0, zero.numpy() - 30, zero.numpy() + 30).astype(zero.numpy().dtype)
    value = ir.Value(name="moved", const_value=ir.Tensor(moved, name="moved"), type=ir.TensorType(zero.dtype))
    value.shape = ir.Shape(moved.shape)
    wrong.graph.register_initializer(value)
    chosen.replace_input_with(2, value)
    np.savez(tmp_path / "x.npz", x=x)
    result = normexport.bisect(right, wrong, tmp_path / "out", data=tmp_path / "x.npz")
    assert result.fault is not None
    assert len(result.fault.nodes) <= 5
    made = {value.name for each in ir.load(tmp_path / "out" / "bisect.onnx").graph for value in each.outputs}
    assert chosen.outputs[0].name in made
    assert shown(tmp_path / "out").returncode == 1


def test_what_the_runtime_does_wrong_to_one_and_the_same_graph_is_found_and_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Faulty(OnnxRuntime):
        """Computes Exp a part in a hundred too large, wherever it is a part of a model."""

        def run(self, feeds: Any, capture: Any = (), sink: Any = None) -> Any:
            values = super().run(feeds, capture, sink)
            if any(each.op_type == "Exp" for each in self._model.graph):
                return {name: np.float32(1.01) * value for name, value in values.items()}
            return values

    monkeypatch.setattr(rules, "OnnxRuntime", Faulty)
    result = normexport.bisect(ir.from_proto(net()), ir.from_proto(net()), None)
    assert result.fault is not None
    assert result.fault.operators == ("Exp",)
    assert result.fault.whose == RUNTIME
    assert result.fault.shown is None  # the real one is right
    assert result.notes


def test_a_fault_that_no_node_has_alone_is_shown_by_the_nodes_together(monkeypatch: pytest.MonkeyPatch) -> None:
    class Joining(OnnxRuntime):
        """Wrong only where a Sub is followed by an Exp: an operator joined from two."""

        def run(self, feeds: Any, capture: Any = (), sink: Any = None) -> Any:
            values = super().run(feeds, capture, sink)
            kinds = {each.op_type for each in self._model.graph}
            return {name: 2 * value for name, value in values.items()} if {"Sub", "Exp"} <= kinds else values

    monkeypatch.setattr(rules, "OnnxRuntime", Joining)
    result = normexport.bisect(ir.from_proto(net()), ir.from_proto(net()), None)
    assert result.fault is not None
    assert result.fault.operators == ("Sub", "Exp")


def test_a_checkpoint_is_narrowed_down_against_its_onnx_file(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 5))
    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(model.eval(), (torch.randn(2, 3, 8, 8),), dynamic_shapes=(batch,))
    torch.export.save(program, tmp_path / "model.pt2")
    exported = ir.to_proto(normexport.export(tmp_path / "model.pt2").model)
    tensor = next(each for each in exported.graph.initializer if len(each.dims) == 4)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.1), tensor.name))
    onnx.save(exported, tmp_path / "wrong.onnx")
    result = normexport.bisect(tmp_path / "model.pt2", tmp_path / "wrong.onnx", tmp_path / "out")
    assert result.fault is not None
    assert result.fault.operators == ("Conv",)
    assert shown(tmp_path / "out").returncode == 1


def test_what_can_not_be_narrowed_down_is_refused(tmp_path: Path) -> None:
    onnx.save(net(), tmp_path / "a.onnx")
    with pytest.raises(UsageError, match="is no ONNX file"):
        normexport.bisect(tmp_path / "a.onnx", tmp_path / "model.plan", tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError):
        normexport.bisect(tmp_path / "a.onnx", tmp_path / "a.onnx", tmp_path / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "file"]


@pytest.mark.parametrize("output", ["c1", "c2", "d", "y"])
def test_a_part_computes_what_the_whole_does_there(output: str) -> None:
    model = opened_model(net())
    feeds = {"x": DICE.normal(size=(2, 3, 8, 8))}
    values: dict[str, Any] = {**feeds}
    whole = Float64Runtime(model).run(feeds, varying(model), values.__setitem__)
    values |= whole
    reads, nodes = needed(model, output, cuts_of(model, model, values).sure.keys() - {output})
    part = sub_model(model, {name: values[name] for name in reads}, output)
    (got,) = Float64Runtime(part).run({name: values[name] for name in reads}).values()
    assert nodes == len(list(part.graph)) == 1
    assert np.array_equal(got, values[output])
    assert len(list(model.graph)) == 7  # the whole is as it was


def test_parity_rounds_the_inner_values_of_a_half_file_that_does_not_say_their_types(tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["" : 20]> g ({0}[N,8] x) => ({0}[N,8] y) {{ a = Exp(x) y = Log(a) }}'
    wide, half = (ir.from_proto(onnx.parser.parse_model(text.format(kind))) for kind in ("float", "float16"))
    np.savez(tmp_path / "x.npz", x=np.full((4, 8), 12.0, np.float32))  # exp(12) is beyond float16
    assert normexport.parity(wide, half, data=tmp_path / "x.npz").judgement.verdict.exit_code == ExitCode.FAILED
