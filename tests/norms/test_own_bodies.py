"""A file can't give an operator of ours another meaning: what is proven on kernels is what bodies compute."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from normexport import norms
from normexport.engine.prepare import prepare
from normexport.errors import FoldError
from normexport.folding import fold
from normexport.io.onnx_model import open_onnx, save_onnx
from normexport.norms.own_bodies import require_own_bodies
from normexport.runtime import OnnxRuntime

pytestmark = pytest.mark.slow


def model(change: Callable[..., Any] = lambda function: None, op: str = "L1BatchNorm") -> ir.Model:
    """One node of ours on (N, 4, S), its body changed by `change`."""
    value = onnx.helper.make_tensor_value_info
    ends = [value(name, onnx.TensorProto.FLOAT, ["N", 4, "S"]) for name in "xy"]
    vectors = [onnx.helper.make_tensor(name, onnx.TensorProto.FLOAT, [4], [1.0] * 4) for name in ("scale", "bias")]
    node = onnx.helper.make_node(op, ["x", "scale", "bias"], ["y"], domain=norms.DOMAIN)
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:], vectors)
    function = copy.deepcopy(norms.functions()[op])
    change(function)
    opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid(norms.DOMAIN, 1)]
    made = onnx.helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=10)
    return ir.from_proto(made)


def other_operator(function: onnx.FunctionProto) -> None:
    node = next(node for node in function.node if node.op_type == "Abs")
    node.op_type = "Neg"


def other_constant(function: onnx.FunctionProto) -> None:
    node = next(node for node in function.node if node.op_type == "Constant" and node.attribute[0].HasField("t"))
    node.attribute[0].t.CopyFrom(onnx.helper.make_tensor("", onnx.TensorProto.INT64, [1], [99]))


def other_wiring(function: onnx.FunctionProto) -> None:
    node = next(node for node in function.node if node.op_type == "Sub")
    node.input[0], node.input[1] = node.input[1], node.input[0]


def nothing_at_all(function: onnx.FunctionProto) -> None:
    del function.node[:]
    function.node.append(onnx.helper.make_node("Identity", [function.input[0]], [function.output[0]]))


def one_more_node(function: onnx.FunctionProto) -> None:
    last = function.output[0]
    for node in function.node:
        node.output[:] = ["inner" if name == last else name for name in node.output]
    function.node.append(onnx.helper.make_node("Neg", ["inner"], [last]))


def other_default(function: onnx.FunctionProto) -> None:
    function.attribute_proto[0].f = 77.0


def older_operators(function: onnx.FunctionProto) -> None:
    function.opset_import[0].version = 11


CHANGES = [older_operators, other_operator, other_constant, other_wiring, nothing_at_all, one_more_node, other_default]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("door", [fold, OnnxRuntime, lambda found: prepare(found, ["L1BatchNorm"])])
def test_a_changed_body_is_refused_by_every_door(change: Callable[..., Any], door: Callable[..., Any]) -> None:
    with pytest.raises(FoldError, match=r"function normexport.L1BatchNorm: has a body that is not this operator's"):
        door(model(change))


def renamed(function: onnx.FunctionProto) -> None:
    def new(names: Iterable[str]) -> list[str]:
        return [name and f"other_{name}" for name in names]

    function.input[:], function.output[:] = new(function.input), new(function.output)
    function.opset_import[0].version = 22
    for index, node in enumerate(function.node):
        node.input[:], node.output[:] = new(node.input), new(node.output)
        node.name, node.doc_string = f"n{index}", "words"


def of_the_long_domain(function: onnx.FunctionProto) -> None:
    """ONNX's own domain under its other name."""
    for each in (*function.opset_import, *function.node):
        each.domain = each.domain or "ai.onnx"


@pytest.mark.parametrize("op", sorted(norms.functions()))
def test_own_bodies_pass_whatever_their_values_and_onnx_itself_are_called(op: str) -> None:
    for change in (lambda function: None, renamed, of_the_long_domain):
        require_own_bodies(model(change, op=op))


def test_own_bodies_pass_after_a_file(tmp_path: Path) -> None:
    for op in norms.functions():
        save_onnx(model(op=op), tmp_path / "m.onnx")
        require_own_bodies(open_onnx(tmp_path / "m.onnx"))
        onnx.save(onnx.load(tmp_path / "m.onnx"), tmp_path / "again.onnx")
        require_own_bodies(open_onnx(tmp_path / "again.onnx"))


def as_before(function: onnx.FunctionProto) -> None:
    """Z = (X - mean) / (s + eps) first, then scale: as versions up to 0.2 wrote it."""
    slope = next(node for node in function.node if list(node.output) == ["slope"])
    scaled = next(node for node in function.node if list(node.output) == ["scaled"])
    (deviation, _), (scale, divisor) = scaled.input, slope.input
    z = onnx.helper.make_node("Div", [deviation, divisor], ["z"])
    scaled.input[:] = ["z", scale]
    others = [node for node in function.node if node is not slope and list(node.output) != ["slope"]]
    place = next(index for index, node in enumerate(others) if divisor in node.output)
    nodes = [copy.deepcopy(node) for node in (*others[: place + 1], z, *others[place + 1 :])]
    del function.node[:]
    function.node.extend(nodes)


@pytest.mark.parametrize("op", sorted(op for op in norms.live_ops() if "Group" not in op))
def test_files_of_earlier_versions_are_taken_as_they_are(op: str) -> None:
    before = model(as_before, op=op)
    require_own_bodies(before)
    x = np.random.default_rng(0).standard_normal((2, 4, 16)).astype(np.float32)
    (old,), (new,) = (OnnxRuntime(each).run({"x": x}).values() for each in (before, model(op=op)))
    np.testing.assert_allclose(old, new, rtol=1e-5, atol=1e-6)


def test_functions_of_other_domains_are_none_of_its_business() -> None:
    found = model()
    foreign = onnx.FunctionProto(name="L1BatchNorm", domain="elsewhere", input=["x"], output=["y"])
    foreign.node.append(onnx.helper.make_node("Neg", ["x"], ["y"]))
    function = ir.serde.deserialize_function(foreign)
    found.functions[function.identifier()] = function
    require_own_bodies(found)
