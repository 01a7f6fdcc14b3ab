"""Networks whose height, width or length stays open: exported, folded, reduced and judged at several sizes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from PIL import Image
from torch import nn

import normexport
from normexport import ConvertConfig, EngineConfig, Half, Int8, UsageError, Verdict
from normexport import nn as nxn
from normexport.onnx_export import parse_inputs

pytestmark = pytest.mark.slow


class Segments(nn.Module):
    """Down by four, up by two with a skip, and a Resize to the size of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8))
        self.second = nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1), nxn.L1BatchNorm2d(16))
        self.up = nn.Sequential(nn.ConvTranspose2d(16, 8, 2, stride=2), nxn.L1BatchNorm2d(8))
        self.classes = nn.Conv2d(8, 4, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        skip = torch.relu(self.first(image))
        found = self.classes(torch.relu(self.up(torch.relu(self.second(skip)))) + skip)
        return nn.functional.interpolate(found, size=image.shape[-2:], mode="bilinear", align_corners=False)


class Waves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv1d(4, 8, 5, padding=2), nxn.LinfBatchNorm1d(8))
        self.second = nn.Sequential(nn.Conv1d(8, 3, 3, stride=2, padding=1), nn.BatchNorm1d(3))

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(wave))).mean(-1)


class Words(nn.Module):
    def __init__(self, layer: type[nn.LSTM | nn.GRU | nn.RNN] = nn.LSTM, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(50, 8)
        self.steps = layer(8, 6, batch_first=True, bidirectional=True, **options)
        self.norm = nxn.L1BatchNorm1d(12)
        self.tags = nn.Linear(12, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        steps, _ = self.steps(self.table(ids))
        return self.tags(self.norm(steps.transpose(1, 2)).transpose(1, 2))


def saved(model: nn.Module, path: Path) -> nn.Module:
    """In eval mode with statistics of training, and written to `path`."""
    torch.manual_seed(0)
    for part in model.modules():
        for name in ("running_mean", "running_var", "running_scale"):
            if isinstance(buffer := getattr(part, name, None), torch.Tensor):
                buffer.uniform_(0.5, 1.5)
    torch.save(model.eval(), path)
    return model


CASES: dict[str, tuple[Callable[[], nn.Module], list[str], list[tuple[int, ...]]]] = {
    "height and width": (Segments, ["3xHxW", "H=16..64:4", "W=16..96:4"], [(3, 16, 16), (3, 20, 92), (3, 64, 96)]),
    "length": (Waves, ["4xL", "L=8..300"], [(4, 8), (4, 77), (4, 300)]),
    "steps": (Words, ["ids=T:int64[0..49]", "T=2..60"], [(2,), (33,), (60,)]),
    "steps of two GRUs": (
        partial(Words, nn.GRU, num_layers=2),
        ["ids=T:int64[0..49]", "T=2..60"],
        [(2,), (33,), (60,)],
    ),
    "steps of an RNN": (
        partial(Words, nn.RNN, nonlinearity="relu", bias=False),
        ["ids=T:int64[0..49]", "T=2..60"],
        [(2,), (33,), (60,)],
    ),
}


def given_at(shape: tuple[int, ...], batch: int) -> np.ndarray:
    rng = np.random.default_rng(sum(shape) + batch)
    if len(shape) == 1:
        return rng.integers(0, 50, (batch, *shape))
    return rng.normal(size=(batch, *shape)).astype(np.float32)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("precision", [None, Half()], ids=["float32", "float16"])
def test_the_file_computes_the_network_at_sizes_that_nothing_was_traced_at(
    case: str, precision: Half | None, tmp_path: Path
) -> None:
    made, texts, shapes = CASES[case]
    model = saved(made(), tmp_path / "model.pt")
    checkpoint = normexport.load(tmp_path / "model.pt", trust=True)
    done = normexport.convert(checkpoint, tmp_path / "out", texts, ConvertConfig(precision=precision))
    assert done.judgement.verdict is Verdict.PASSED
    assert {outcome.fate for outcome in done.outcomes} == {"folded"}
    # Beside them may stand one that feeds the rows of a table that the five left out.
    assert len({row.batch for row in done.parity.outputs if row.batch.startswith("random")}) == 5
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED  # see test_loading
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx", options)
    for shape in shapes:
        for batch in (1, 3):
            array = given_at(shape, batch)
            fed = torch.from_numpy(array.astype(np.float64) if array.dtype == np.float32 else array)
            with torch.no_grad():
                right = model.double()(fed).numpy()
            (found,) = session.run(None, {session.get_inputs()[0].name: array})
            assert found.shape == right.shape
            np.testing.assert_allclose(found, right, atol=2e-5 if precision is None else 2e-2)


def test_int8_keeps_the_sizes_open_that_its_data_do_not_have(tmp_path: Path) -> None:
    saved(Segments(), tmp_path / "model.pt")
    images = np.random.default_rng(1).normal(size=(24, 3, 32, 48)).astype(np.float32)
    np.savez(tmp_path / "data.npz", image=images)
    config = ConvertConfig(precision=Int8(calibration=tmp_path / "data.npz", min_snr=20))
    done = normexport.convert(
        normexport.load(tmp_path / "model.pt", trust=True), tmp_path / "out", CASES["height and width"][1], config
    )
    assert done.precision is not None
    assert done.precision.judgement.verdict is Verdict.PASSED
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    assert session.run(None, {session.get_inputs()[0].name: images[:1, :, :20, :44]})[0].shape == (1, 4, 20, 44)


def test_a_segmentation_network_is_evaluated_on_images_of_mixed_sizes(tmp_path: Path) -> None:
    model = saved(Segments(), tmp_path / "model.pt")
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.zero_()  # of pixels from 0 to 1 the others would leave nothing behind a ReLU
    torch.save(model, tmp_path / "model.pt")
    checkpoint = normexport.load(tmp_path / "model.pt", trust=True)
    config = ConvertConfig(precision=Half())
    normexport.convert(checkpoint, tmp_path / "out", CASES["height and width"][1], config)
    (tmp_path / "data").mkdir()
    for index, (height, width) in enumerate([(20, 92), (64, 96), (16, 16), (21, 35)]):
        pixels = np.random.default_rng(index).integers(0, 256, (height, width, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / f"{index}.png")
    texts = CASES["height and width"][1]
    found = normexport.evaluate(tmp_path / "out" / "model.onnx", tmp_path / "data", checkpoint, texts)
    assert found.samples == 4
    assert found.judgement is not None
    assert found.judgement.verdict is Verdict.PASSED
    assert found.snr_db is not None
    assert found.snr_db > 40
    assert found.agreement is not None  # of positions
    assert found.agreement > 0.98


@pytest.mark.parametrize("case", ["height and width", "length", "steps", "steps of two GRUs"])
def test_an_engine_is_built_over_the_range_that_was_asked_for(case: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'normexport[rtx]'")
    made, texts, _ = CASES[case]
    saved(made(), tmp_path / "model.pt")
    config = ConvertConfig(engine=EngineConfig(targets=("sm89",), plugins=False))
    done = normexport.convert(normexport.load(tmp_path / "model.pt", trust=True), tmp_path / "out", texts, config)
    assert done.engine is not None
    manifest = json.loads((tmp_path / "out" / "model.plan.json").read_text())
    (read,) = manifest["inputs"]
    ranges = [text.partition("=")[2].partition(":")[0].split("..") for text in texts[1:]]
    fixed = {"height and width": [3], "length": [4]}.get(case, [])
    assert read["smallest"] == [1, *fixed, *(int(least) for least, _ in ranges)]
    assert read["largest"] == [32, *fixed, *(int(most) for _, most in ranges)]
    assert read["shape"] == [-1, *fixed, *(-1 for _ in ranges)]


def test_a_network_that_fixes_a_size_is_refused_with_what_to_write(tmp_path: Path) -> None:
    fixed = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nxn.L1BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 64, 2))
    saved(fixed, tmp_path / "model.pt")
    with pytest.raises(UsageError, match="fails on") as refused:
        normexport.export(normexport.load(tmp_path / "model.pt", trust=True), ["3xHx8", "H=4..64"])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_are_one_node_whose_length_the_file_leaves_open(
    layer: Callable[..., nn.Module], batch_first: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = layer(4, 6, batch_first=batch_first).eval()
    text = "Tx4" if batch_first else "Tx2x4"
    spec = replace(parse_inputs([text, "T=3..50"])[0], batched=batch_first)
    normexport.export(model, [spec], tmp_path / "model.onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    assert [node.op_type for node in proto.graph.node].count(layer.__name__) == 1
    whole = ("batch", "T", "6") if batch_first else ("T", "2", "6")
    dims = proto.graph.output[0].type.tensor_type.shape.dim
    assert tuple(dim.dim_param or str(dim.dim_value) for dim in dims) == whole
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for length in (3, 50):
        array = np.random.default_rng(length).normal(size=(2, length, 4) if batch_first else (length, 2, 4))
        with torch.no_grad():
            right = model.double()(torch.from_numpy(array))[0].numpy()
        model.float()
        found = session.run(None, {session.get_inputs()[0].name: array.astype(np.float32)})[0]
        np.testing.assert_allclose(found, right, atol=1e-5)


def wrong_at_odd_widths(path: Path, error: float) -> None:
    """y = x, and at odd widths `error` more."""
    constants = {"three": np.array(3), "two": np.array(2), "error": np.array(error, np.float32)}
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "three"], ["width"]),
        helper.make_node("Mod", ["width", "two"], ["odd"]),
        helper.make_node("Cast", ["odd"], ["factor"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", ["factor", "error"], ["more"]),
        helper.make_node("Add", ["x", "more"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 3, "h", "w"]) for name in "xy"]
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_a_candidate_that_is_wrong_at_odd_widths_alone_has_failed(tmp_path: Path) -> None:
    wrong_at_odd_widths(tmp_path / "right.onnx", 0.0)
    wrong_at_odd_widths(tmp_path / "wrong.onnx", 1e-3)
    sides = tmp_path / "right.onnx", tmp_path / "wrong.onnx"
    assert normexport.parity(*sides, ["x=3x8x8"]).judgement.verdict is Verdict.PASSED  # at one size nothing shows
    open_sizes = ["x=3xHxW", "H=4..32", "W=8..32:2"]
    assert normexport.parity(*sides, open_sizes).judgement.verdict is Verdict.PASSED  # even widths were asked for
    assert normexport.parity(*sides, ["x=3xHxW", "H=4..32", "W=8..33"]).judgement.verdict is Verdict.FAILED


def test_a_candidate_of_fixed_size_does_not_stand_for_one_of_open_size(tmp_path: Path) -> None:
    wrong_at_odd_widths(tmp_path / "open.onnx", 0.0)
    model = onnx.load(tmp_path / "open.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 8
    onnx.save(model, tmp_path / "fixed.onnx")
    with pytest.raises(UsageError, match="leaves W open, and the model fixes it at 8"):
        normexport.parity(tmp_path / "open.onnx", tmp_path / "fixed.onnx", ["x=3x8xW", "W=4..32"])
