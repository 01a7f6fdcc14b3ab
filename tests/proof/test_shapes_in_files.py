"""Shapes as files have them: sizes stored as -1, open under a name or none, fixed, the batch on another axis."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.export import Dim

import normexport
from normexport.errors import UsageError
from normexport.verbs.evaluate import evaluate
from normexport.verbs.parity import check

pytestmark = pytest.mark.slow

WEIGHT = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)


def saved(
    path: Path,
    nodes: Sequence[tuple[str, list[str], list[str], dict[str, Any]]],
    inputs: Sequence[tuple[str, int, Sequence[Any]]],
    weights: Sequence[Any] = (),
    defaults: Sequence[Any] = (),
) -> Path:
    """An ONNX file of the nodes (operator, inputs, outputs, attributes) and the inputs {name: shape}."""
    outputs = nodes[-1][2]
    graph = helper.make_graph(
        [helper.make_node(op, ins, outs, **attributes) for op, ins, outs, attributes in nodes],
        "net",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in [*weights, *defaults]],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path)
    return path


def linear(path: Path, *shape: int | str | None, kind: int = TensorProto.FLOAT) -> Path:
    return saved(path, [("MatMul", ["x", "w"], ["y"], {})], [("x", kind, shape)], [("w", WEIGHT)])


def sizes_judged(report: normexport.ParityReport | normexport.SnrReport) -> list[str]:
    return [row.batch.split("batch ")[1] for row in report.outputs]


@pytest.mark.parametrize("first", [-1, None, "batch", "N", "whatever"])
def test_an_open_first_size_is_the_batch_however_it_is_stored(tmp_path: Path, first: int | str | None) -> None:
    file = linear(tmp_path / "m.onnx", first, 3)
    assert sizes_judged(check(file, file)) == ["1", "2", "7"]


@pytest.mark.parametrize("text", ["6x3", "x=6x3"])
@pytest.mark.parametrize("width", [-1, None, "w"])
def test_an_open_size_is_taken_from_the_shape_given_with_or_without_a_name(
    tmp_path: Path, width: int | str | None, text: str
) -> None:
    file = linear(tmp_path / "m.onnx", "N", width, 3)
    said = r"input x: has open sizes .*give its shape with --input x=16x3 \(Hx3: any\), or .* --data"
    with pytest.raises(UsageError, match=said):
        check(file, file)
    assert sizes_judged(check(file, file, [text])) == ["1", "2", "7"]


def test_the_shapes_of_real_inputs_say_the_open_sizes(tmp_path: Path) -> None:
    file = linear(tmp_path / "m.onnx", "N", "w", 3)
    np.savez(tmp_path / "d.npz", x=np.ones((4, 6, 3), np.float32))
    assert sizes_judged(check(file, file, data=tmp_path / "d.npz")) == ["4", "1", "2", "7"]


def test_a_fixed_batch_beside_an_open_width_stays_fixed(tmp_path: Path) -> None:
    file = linear(tmp_path / "m.onnx", 1, "w", 3)
    for text in ("6x3", "1x6x3"):
        report = check(file, file, [text])
        assert report.passed
        assert all("fixed by the model" in size for size in sizes_judged(report))
    with pytest.raises(UsageError, match="does not fit the model, which reads x=1xwx3:float32"):
        check(file, file, ["2x6x3"])


def test_a_whole_shape_fixes_an_open_batch(tmp_path: Path) -> None:
    file = linear(tmp_path / "m.onnx", "N", "w", 3)
    assert all("fixed" in size for size in sizes_judged(check(file, file, ["2x6x3"])))


def test_one_name_is_one_size(tmp_path: Path) -> None:
    square = saved(tmp_path / "s.onnx", [("MatMul", ["x", "x"], ["y"], {})], [("x", TensorProto.FLOAT, ["n", "n"])])
    assert sizes_judged(check(square, square)) == ["1", "2", "7"]
    shapes: list[Any] = [("a", TensorProto.FLOAT, ["batch", "s"]), ("b", TensorProto.FLOAT, ["batch", "s"])]
    both = saved(tmp_path / "b.onnx", [("Add", ["a", "b"], ["y"], {})], shapes)
    assert check(both, both, ["a=6"]).passed
    with pytest.raises(UsageError, match="--input b=7: does not fit the model, which reads b=Nxs:float32"):
        check(both, both, ["a=6", "b=7"])


def gru(path: Path, batch: int | str) -> Path:
    rng = np.random.default_rng(1)
    weights = [("w", rng.standard_normal((1, 12, 3))), ("r", rng.standard_normal((1, 12, 4)))]
    inputs: list[Any] = [("x", TensorProto.FLOAT, [6, batch, 3]), ("h", TensorProto.FLOAT, [1, batch, 4])]
    node = ("GRU", ["x", "w", "r", "", "", "h"], ["y", "yh"], {"hidden_size": 4})
    return saved(path, [node], inputs, [(name, array.astype(np.float32)) for name, array in weights])


def test_states_have_their_batch_on_axis_1(tmp_path: Path) -> None:
    named, unnamed = gru(tmp_path / "n.onnx", "batch"), gru(tmp_path / "u.onnx", -1)
    np.savez(tmp_path / "d.npz", x=np.ones((6, 20, 3), np.float32), h=np.ones((1, 20, 4), np.float32))
    assert sizes_judged(check(named, named, data=tmp_path / "d.npz"))[:4] == ["16", "1", "2", "7"]
    assert sizes_judged(check(unnamed, unnamed, ["x=6x3", "h=1x4"]))[:3] == ["1", "2", "7"]


def test_a_size_that_one_file_fixes_is_fixed_for_both(tmp_path: Path) -> None:
    free, fixed = linear(tmp_path / "a.onnx", "N", 3), linear(tmp_path / "b.onnx", 4, 3)
    for pair in ((free, fixed), (fixed, free)):
        report = check(*pair)
        assert report.passed
        assert "fixed by the model" in report.outputs[0].batch


@pytest.mark.parametrize("kind", ["STRING", "INT4", "COMPLEX64", "FLOAT8E4M3FN"])
def test_inputs_that_no_array_of_numbers_is_are_refused_by_their_type(tmp_path: Path, kind: str) -> None:
    inputs: list[Any] = [("x", getattr(TensorProto, kind), ["N", 3])]
    file = saved(tmp_path / "m.onnx", [("Identity", ["x"], ["y"], {})], inputs)
    with pytest.raises(UsageError, match=f"input x: is of the type {kind}"):
        check(file, file)


def test_inputs_with_a_default_are_not_asked_for(tmp_path: Path) -> None:
    inputs: list[Any] = [("x", TensorProto.FLOAT, ["N", 3]), ("b", TensorProto.FLOAT, [3])]
    file = saved(
        tmp_path / "m.onnx", [("Add", ["x", "b"], ["y"], {})], inputs, defaults=[("b", np.ones(3, np.float32))]
    )
    assert check(file, file).passed
    with pytest.raises(UsageError, match="--input b: the model reads x"):
        check(file, file, ["b=3"])


def test_evaluate_takes_open_sizes_from_input_and_from_data(tmp_path: Path) -> None:
    file = saved(
        tmp_path / "m.onnx",
        [("ReduceMean", ["x", "axes"], ["m"], {"keepdims": 0}), ("MatMul", ["m", "w"], ["y"], {})],
        [("x", TensorProto.FLOAT, ["N", "w", 3])],
        [("w", WEIGHT), ("axes", np.array([1]))],
    )
    x = np.random.default_rng(2).standard_normal((70, 6, 3)).astype(np.float32)
    labels = (x.mean(1) @ WEIGHT).argmax(1)
    np.savez(tmp_path / "d.npz", x=x, labels=labels)
    for inputs in ((), ["6x3"], ["x=6x3:float32"]):
        assert evaluate(file, tmp_path / "d.npz", inputs=inputs).accuracy == 1
    with pytest.raises(UsageError, match=r"has shape \(70, 6, 3\), expected \(N, 5, 3\)"):
        evaluate(file, tmp_path / "d.npz", inputs=["5x3"])


def test_evaluate_feeds_a_fixed_batch_that_many_at_a_time(tmp_path: Path) -> None:
    file = linear(tmp_path / "m.onnx", 4, 3)
    x = np.random.default_rng(2).standard_normal((12, 3)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x, labels=(x @ WEIGHT).argmax(1))
    found = evaluate(file, tmp_path / "d.npz")
    assert (found.samples, found.accuracy) == (12, 1)


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        out = self.first(x)
        return out if y is None else out.sum(0) + y.sum(0)


@pytest.mark.parametrize(
    ("least", "most", "sizes"), [(1, 4, ["1", "2", "3"]), (4, 64, ["4", "5", "7"]), (5, 6, ["5", "6"])]
)
def test_programs_are_judged_at_the_sizes_that_they_were_declared_for(
    tmp_path: Path, least: int, most: int, sizes: list[str]
) -> None:
    dims = ({0: Dim("b", min=least, max=most)},)
    program = torch.export.export(Linear().eval(), (torch.ones(least + 1, 3),), dynamic_shapes=dims)
    torch.export.save(program, tmp_path / "m.pt2")
    assert sizes_judged(normexport.convert(tmp_path / "m.pt2", tmp_path / "out").parity) == sizes
    config = normexport.ConvertConfig(batches=(most + 1,))
    with pytest.raises(UsageError, match=f"batch size {most + 1}: the model takes {least} to {most}"):
        normexport.convert(tmp_path / "m.pt2", tmp_path / "out", config=config)


def test_programs_may_take_twice_the_batch_on_one_input(tmp_path: Path) -> None:
    k = Dim("k", min=1, max=4)
    examples = torch.ones(4, 3), torch.ones(2, 3)
    program = torch.export.export(Linear().eval(), examples, dynamic_shapes=({0: 2 * k}, {0: k}))
    torch.export.save(program, tmp_path / "m.pt2")
    assert sizes_judged(normexport.convert(tmp_path / "m.pt2", tmp_path / "out").parity) == ["1", "2", "3"]
    file = tmp_path / "out" / "model.onnx"
    assert sizes_judged(check(file, file)) == ["1", "2", "7"]


def test_the_data_alone_say_what_a_program_of_open_sizes_is_converted_for(tmp_path: Path) -> None:
    dims = ({0: Dim("b"), 1: Dim("w")},)
    program = torch.export.export(Linear().eval(), (torch.ones(4, 7, 3),), dynamic_shapes=dims)
    torch.export.save(program, tmp_path / "m.pt2")
    with pytest.raises(UsageError, match="has open sizes"):
        normexport.convert(tmp_path / "m.pt2", tmp_path / "out")
    np.savez(tmp_path / "d.npz", x=np.ones((20, 7, 3), np.float32), labels=np.zeros(20, int))
    config = normexport.ConvertConfig(data=tmp_path / "d.npz")
    result = normexport.convert(tmp_path / "m.pt2", tmp_path / "out", config=config)
    assert sizes_judged(result.parity) == ["16", "1", "2", "7"]
