"""Models that this machine can not run, or that give nothing, are refused before they are run."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from normexport.errors import FoldError, UsageError
from normexport.proof import compare
from normexport.proof.inputs.batches import Batch
from normexport.proof.room import require_room
from normexport.runtime.memory import available_memory
from normexport.verbs.parity import check


def tiled(times: int) -> ir.Model:
    """x (N, 4) repeated along the second axis, its shape told."""
    value = onnx.helper.make_tensor_value_info
    repeats = onnx.helper.make_tensor("repeats", onnx.TensorProto.INT64, [2], [1, times])
    nodes = [
        onnx.helper.make_node("Tile", ["x", "repeats"], ["wide"]),
        onnx.helper.make_node("ReduceMean", ["wide"], ["y"], keepdims=0),
    ]
    inputs, outputs = [value("x", 1, ["N", 4])], [value("y", 1, [])]
    inner = [value("wide", 1, ["N", 4 * times])]
    graph = onnx.helper.make_graph(nodes, "g", inputs, outputs, [repeats], value_info=inner)
    opset = [onnx.helper.make_opsetid("", 20)]
    return ir.from_proto(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10))


def doubled(times: int) -> ir.Model:
    """x (N, 4) with itself, and that with itself, and so on: 4 * 2^times columns; no inner shape is told."""
    value = onnx.helper.make_tensor_value_info
    names = ["x", *(f"v{index}" for index in range(1, times + 1))]
    nodes = [onnx.helper.make_node("Concat", [before, before], [after], axis=1) for before, after in pairwise(names)]
    nodes.append(onnx.helper.make_node("ReduceMean", [names[-1]], ["y"], keepdims=0))
    graph = onnx.helper.make_graph(nodes, "g", [value("x", 1, ["N", 4])], [value("y", 1, [])])
    opset = [onnx.helper.make_opsetid("", 20)]
    return ir.from_proto(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10))


def test_a_value_larger_than_the_memory_is_named_before_anything_runs() -> None:
    model = tiled(10**12)
    with pytest.raises(UsageError, match=r"value wide: takes 448000\.0 GB to compute at batch 7, and .* GB are free"):
        compare(model, model)


def test_shapes_that_the_file_does_not_say_are_inferred() -> None:
    model = doubled(36)
    with pytest.raises(UsageError, match=r"value v\d+: takes .* GB to compute"):
        compare(model, model)
    assert compare(doubled(6), doubled(6)).passed


def expanded(size: int) -> ir.Model:
    """y (N, 4) = x + the mean of a constant that is repeated `size` times."""
    value, tensor = onnx.helper.make_tensor_value_info, onnx.helper.make_tensor
    nodes = [
        onnx.helper.make_node("Expand", ["one", "size"], ["many"]),
        onnx.helper.make_node("ReduceMean", ["many"], ["mean"], keepdims=0),
        onnx.helper.make_node("Add", ["x", "mean"], ["y"]),
    ]
    constants = [tensor("one", 1, [1], [1.0]), tensor("size", 7, [1], [size])]
    graph = onnx.helper.make_graph(nodes, "g", [value("x", 1, ["N", 4])], [value("y", 1, ["N", 4])], constants)
    opset = [onnx.helper.make_opsetid("", 20)]
    return ir.from_proto(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10))


def test_a_small_model_that_takes_gigabytes_is_refused_though_they_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    model = expanded(10**8)
    with pytest.raises(UsageError, match=r"value many: takes 1\.6 GB .* may take 1\.1 GB; .* set NORMEXPORT_MEMORY=2"):
        require_room(model, ())
    monkeypatch.setenv("NORMEXPORT_MEMORY", "2")
    require_room(model, ())
    monkeypatch.setenv("NORMEXPORT_MEMORY", "two")
    with pytest.raises(UsageError, match="NORMEXPORT_MEMORY: is 'two'; give gigabytes, such as 8"):
        require_room(model, ())


def test_large_inputs_and_large_weights_may_make_large_values() -> None:
    pixels = 4 * 2**20
    graph = expanded(2**28).graph
    require_room(ir.Model(graph, ir_version=10), [Batch("", pixels, {})])  # x (pixels, 4)
    graph.initializers["weights"] = ir.Value(name="weights", const_value=ir.Tensor(np.zeros(2**23, np.float32)))
    require_room(ir.Model(graph, ir_version=10), ())


def test_what_no_shape_tells_of_is_bounded_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes that a NonZero decides: x (N, 4) is all ones or not, and each one is repeated."""
    value, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    nodes = [node("NonZero", ["x"], ["places"]), node("Transpose", ["places"], ["rows"], perm=[1, 0])]
    nodes.append(node("Cast", ["rows"], ["v0"], to=1))
    names = [f"v{index}" for index in range(28)]
    nodes += [node("Concat", [before, before], [after], axis=1) for before, after in pairwise(names)]
    nodes.append(node("ReduceMean", [names[-1]], ["y"], keepdims=0))
    graph = onnx.helper.make_graph(nodes, "g", [value("x", 1, ["N", 4])], [value("y", 1, [])])
    opset = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("own", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=10)
    monkeypatch.setattr("normexport.proof.room._shapes", lambda model: [])
    onnx.save(model, tmp_path / "m.onnx")
    monkeypatch.setenv("NORMEXPORT_MEMORY", "0.1")
    with pytest.raises((UsageError, FoldError), match=r"running it takes more than 0\.2 GB"):
        check(tmp_path / "m.onnx", tmp_path / "m.onnx")


def test_what_fits_is_run() -> None:
    model = tiled(10)
    assert compare(model, model).passed


def test_the_largest_batch_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("normexport.proof.room.available_memory", lambda: 4 * 1000 * 8 * 2 * 5)
    require_room(tiled(1000), [Batch("", 5, {})])
    with pytest.raises(UsageError, match="at batch 6"):
        require_room(tiled(1000), [Batch("", 5, {}), Batch("", 6, {})])


def test_where_the_memory_is_not_known_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("normexport.proof.room.available_memory", lambda: None)
    monkeypatch.setenv("NORMEXPORT_MEMORY", "1e9")
    require_room(tiled(10**12), [Batch("", 7, {})])


def test_the_memory_of_this_machine_is_known_on_linux() -> None:
    found = available_memory()
    assert found is None or 1 << 20 < found < 1 << 50


def test_a_model_without_outputs_proves_nothing() -> None:
    model = tiled(10)
    model.graph.outputs.clear()
    with pytest.raises(FoldError, match="has no outputs"):
        compare(model, model)


def test_an_input_of_a_type_that_no_array_has_is_refused() -> None:
    model = tiled(10)
    model.graph.inputs[0].dtype = ir.DataType.UNDEFINED
    with pytest.raises(UsageError, match="input x: is of the type UNDEFINED"):
        compare(model, model)
