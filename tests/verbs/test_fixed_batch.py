"""`--batch`: a file of one batch size, proven there, and networks that can be traced in no other way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper
from torch import nn

import normexport
from normexport import ConvertConfig, ExportConfig, ExportError, Int8, UsageError, load
from normexport import nn as nxn
from normexport.onnx_export import BatchRange, InputSpec, OpenAxis

pytestmark = pytest.mark.slow


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nxn.L1BatchNorm2d(8))
        self.head = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.first(image)).mean((2, 3)))


class Alone(nn.Module):
    """Fits one sample: its state is a row that it makes for a batch of 1."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.LSTMCell(6, 4)

    def forward(self, frame: torch.Tensor) -> torch.Tensor:
        state, _ = self.step(frame.view(1, -1), (torch.zeros(1, 4), torch.zeros(1, 4)))
        return state


class ByBatch(nn.Module):
    """Python decides by the batch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[i] * (i + 1) for i in range(x.shape[0])]).sum(1)


def made(model: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    for part in model.modules():
        for name in ("running_mean", "running_var", "running_scale"):
            if isinstance(buffer := getattr(part, name, None), torch.Tensor):
                buffer.uniform_(0.5, 1.5)
    return model.eval()


def sizes(path: Path, outputs: bool = False) -> list[list[int]]:
    graph = onnx.load(path).graph
    return [
        [dim.dim_value for dim in each.type.tensor_type.shape.dim]
        for each in (graph.output if outputs else graph.input)
    ]


def answers(path: Path, *arrays: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    result: np.ndarray = session.run(None, dict(zip(names, arrays, strict=True)))[0]
    return result


def program_of(model: nn.Module, folder: Path, dim: torch.export.Dim | None) -> Path:
    shapes = None if dim is None else ({0: dim},)
    program = torch.export.export(model, (torch.randn(4, 3, 8, 8),), dynamic_shapes=shapes)
    torch.export.save(program, folder / "model.pt2")
    return folder / "model.pt2"


@pytest.mark.parametrize("door", ["module", "program", "onnx"])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_file_has_the_batch_by_every_door_and_is_proven_there(door: str, batch: int, tmp_path: Path) -> None:
    model = made(Small())
    source, inputs = tmp_path / "model.pt", ["3x8x8"]
    torch.save(model, source)
    if door != "module":
        source, inputs = program_of(model, tmp_path, torch.export.Dim("n", min=1, max=9)), []
    if door == "onnx":
        normexport.export(source, inputs, tmp_path / "model.onnx")
        source = tmp_path / "model.onnx"
    config = ConvertConfig(export=ExportConfig(batch=batch))
    given = load(source, trust=True) if door == "module" else source
    result = normexport.convert(given, tmp_path / "out", inputs, config)
    assert result.passed, result.judgement
    written = tmp_path / "out" / "model.onnx"
    assert sizes(written) == [[batch, 3, 8, 8]]
    assert sizes(written, outputs=True) == [[batch, 5]]
    x = torch.randn(batch, 3, 8, 8)
    with torch.no_grad():
        right = model(x).numpy()
    np.testing.assert_allclose(answers(written, x.numpy()), right, rtol=1e-4, atol=1e-5)
    onnx.checker.check_model(onnx.load(written), full_check=True)


@pytest.mark.parametrize(("network", "shape"), [(Alone, "6"), (ByBatch, "4x5")])
def test_a_network_that_needs_one_batch_is_refused_with_the_remedy_that_works(
    network: type[nn.Module], shape: str, tmp_path: Path
) -> None:
    torch.save(made(network()), tmp_path / "model.pt")
    checkpoint = load(tmp_path / "model.pt", trust=True)
    with pytest.raises(ExportError, match=r"--batch 1$") as refused:
        normexport.convert(checkpoint, tmp_path / "out", [shape])
    assert "\n" not in str(refused.value)
    result = normexport.convert(checkpoint, tmp_path / "out", [shape], ConvertConfig(export=ExportConfig(batch=1)))
    assert result.passed, result.judgement
    assert sizes(tmp_path / "out" / "model.onnx")[0][0] == 1


def test_a_file_with_the_state_of_one_sample_is_refused_with_the_remedy_that_works(tmp_path: Path) -> None:
    floats = onnx.TensorProto.FLOAT
    ports = [
        helper.make_tensor_value_info("x", floats, ["n", 4]),
        helper.make_tensor_value_info("state", floats, [1, 3]),
    ]
    ends = [helper.make_tensor_value_info("y", floats, ["n", 7])]
    node = helper.make_node("Concat", ["x", "state"], ["y"], axis=1)
    graph = helper.make_graph([node], "g", ports, ends)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "m.onnx")
    with pytest.raises(UsageError, match=r"it runs at batch 1: convert it with --batch 1, judge it with --batches 1$"):
        normexport.convert(tmp_path / "m.onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    config = ConvertConfig(export=ExportConfig(batch=1))
    assert normexport.convert(tmp_path / "m.onnx", tmp_path / "out", config=config).passed
    assert normexport.parity(tmp_path / "m.onnx", tmp_path / "out" / "model.onnx", batches=(1,)).passed


def test_a_remedy_that_does_not_work_is_not_named() -> None:
    class ByValue(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if float(x.sum()) > 0 else x

    with pytest.raises(ExportError) as refused:
        normexport.export(ByValue().eval(), ["3"])
    assert "--batch" not in str(refused.value)


def test_a_batch_is_fixed_and_other_sizes_stay_open(tmp_path: Path) -> None:
    class Waves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(nn.Conv1d(4, 8, 5, padding=2), nxn.L1BatchNorm1d(8))

        def forward(self, wave: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.first(wave)).mean(-1)

    model = made(Waves())
    normexport.export(model, ["4xT", "T=8..64"], tmp_path / "model.onnx", ExportConfig(batch=2))
    (size,) = onnx.load(tmp_path / "model.onnx").graph.input
    dims = size.type.tensor_type.shape.dim
    assert [dim.dim_value or dim.dim_param for dim in dims] == [2, 4, "T"]
    for length in (8, 13, 64):
        x = torch.randn(2, 4, length)
        with torch.no_grad():
            right = model(x).numpy()
        np.testing.assert_allclose(answers(tmp_path / "model.onnx", x.numpy()), right, rtol=1e-4, atol=1e-5)


def test_int8_of_a_fixed_batch_is_calibrated_on_data_of_many_samples(tmp_path: Path) -> None:
    torch.save(made(Small()), tmp_path / "model.pt")
    np.savez(tmp_path / "data.npz", image=np.random.default_rng(0).normal(size=(12, 3, 8, 8)).astype(np.float32))
    config = ConvertConfig(
        export=ExportConfig(batch=2), precision=Int8(calibration=tmp_path / "data.npz"), data=tmp_path / "data.npz"
    )
    result = normexport.convert(load(tmp_path / "model.pt", trust=True), tmp_path / "out", ["3x8x8"], config)
    assert result.precision is not None
    assert sizes(tmp_path / "out" / "model.onnx") == [[2, 3, 8, 8]]


@pytest.mark.parametrize(
    ("dim", "batch", "why"),
    [
        (None, 3, "fixes it: image=4x3x8x8"),
        (None, "dynamic", "fixes it: image=4x3x8x8"),
        (torch.export.Dim("n", min=2, max=9), 1, "takes image at a batch of 2 to 9"),
        (torch.export.Dim("n", min=2, max=9), 10, "takes image at a batch of 2 to 9"),
    ],
)
def test_a_batch_that_the_program_does_not_take_is_refused_in_one_line(
    dim: torch.export.Dim | None, batch: int, why: str, tmp_path: Path
) -> None:
    source = program_of(made(Small()), tmp_path, dim)
    config = ExportConfig(batch=batch)
    with pytest.raises(UsageError, match=why) as refused:
        normexport.convert(source, tmp_path / "out", (), ConvertConfig(export=config))
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_the_batch_that_a_program_has_anyway_is_no_contradiction(tmp_path: Path) -> None:
    source = program_of(made(Small()), tmp_path, None)
    result = normexport.convert(source, tmp_path / "out", (), ConvertConfig(export=ExportConfig(batch=4)))
    assert result.passed
    assert sizes(tmp_path / "out" / "model.onnx") == [[4, 3, 8, 8]]


def test_a_batch_on_several_axes_and_inputs_is_one_number(tmp_path: Path) -> None:
    """Of an ONNX file: on axis 1 of a state, on both of a square, and doubled inside."""
    kinds: dict[str, list[str | int]] = {
        "x": ["batch size", 3],
        "state": [2, "batch size", 3],
        "square": ["batch size", "batch size"],
    }
    inputs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, kinds[name]) for name in kinds]
    nodes = [
        helper.make_node("ReduceSum", ["state"], ["row"], keepdims=0, axes=None),
        helper.make_node("MatMul", ["square", "x"], ["mixed"]),
        helper.make_node("Add", ["mixed", "row"], ["sum"]),
        helper.make_node("Concat", ["sum", "x"], ["y"], axis=0),
    ]
    outputs = [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.save(model, tmp_path / "any.onnx")
    result = normexport.convert(
        tmp_path / "any.onnx", tmp_path / "out", (), ConvertConfig(export=ExportConfig(batch=5))
    )
    assert result.passed, result.judgement
    assert sizes(tmp_path / "out" / "model.onnx") == [[5, 3], [2, 5, 3], [5, 5]]


def test_an_input_of_fixed_batch_keeps_its_open_axes_in_place() -> None:
    spec = InputSpec("x", (3, 16, 20), axes=(0,), open=(OpenAxis(1, "H", BatchRange(1, None, 8, 0)),)).fixed(7)
    assert (spec.shape, spec.batched, spec.declared()) == ((7, 3, 16, 20), False, (7, 3, "H", 20))
    assert spec.at({"H": 5}).sized(1) == (7, 3, 40, 20)
    state = InputSpec("h", (2, 4), axes=(1,), batch=BatchRange(1, None, 2, 1)).fixed(3)
    assert (state.shape, state.sized(9)) == ((2, 7, 4), (2, 7, 4))


@pytest.mark.parametrize("batch", [0, -1, True, "1", "all", 1 << 40, 1.0])
def test_what_is_no_batch_is_refused_where_it_is_given(batch: object) -> None:
    with pytest.raises(UsageError, match="is not a batch size; give one, such as 1, or dynamic"):
        ExportConfig(batch=batch)  # type: ignore[arg-type]  # what the message is for


def test_other_batches_beside_a_fixed_one_are_refused() -> None:
    with pytest.raises(UsageError, match="leave it out"):
        ConvertConfig(export=ExportConfig(batch=1), batches=(1, 8))
    assert ConvertConfig(export=ExportConfig(batch=8), batches=(8,)).export.batch == 8
