"""Lists, tuples, dicts, dataclasses, named tuples, None and keywords: what forward takes, and what it returns."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx_ir.serde import serialize_model
from torch import nn

import normexport
from normexport import nn as nxn
from normexport.errors import ExportError, UsageError
from normexport.onnx_export import export, parse_inputs
from normexport.proof import check_model
from normexport.verdicts import Verdict

pytestmark = pytest.mark.slow


@dataclasses.dataclass
class Scene:
    image: torch.Tensor
    mask: torch.Tensor | None
    gain: torch.Tensor | None = None


class Pair(NamedTuple):
    left: torch.Tensor
    right: torch.Tensor


class Output(OrderedDict[str, Any]):
    """An OrderedDict with attributes, as Hugging Face's models return."""


class Net(nn.Module):
    """A norm, and a forward that is given."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.norm = nn.Linear(4, 4), nxn.L1BatchNorm1d(4)
        for value in (self.norm.running_mean, self.norm.running_scale, self.norm.bias):
            value.data = torch.rand(4) + 0.5
        self.eval()

    def y(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.fc(x))


class Listed(Net):
    def forward(self, boxes: list[torch.Tensor]) -> Any:
        return [self.y(boxes[0]), (boxes[1] * 2, [])]


class Tupled(Net):
    def forward(self, x: torch.Tensor, pair: tuple[torch.Tensor, torch.Tensor]) -> Any:
        assert isinstance(pair, tuple)
        return {"sum": self.y(x) + pair[0] - pair[1], "none": None, "empty": {}}


class Nested(Net):
    def forward(self, batch):  # type: ignore[no-untyped-def]  # as most are written
        return {"levels": [self.y(level) for level in batch["levels"]], "rest": batch["info"]["size"] + 1}


class Fields(Net):
    def forward(self, scene: Scene, *, pair: Pair | None = None) -> Scene:
        assert scene.mask is None
        found = self.y(scene.image) * (2 if scene.gain is None else scene.gain)
        return Scene(found if pair is None else found + pair.left * pair.right, None, scene.image)


class Keywords(Net):
    def forward(self, x: torch.Tensor, mask: torch.Tensor | None, *, scale: torch.Tensor, n: int = 2) -> Pair:
        assert mask is None
        return Pair(self.y(x) * scale, x * n)


class Gathered(Net):
    def forward(self, **batch: torch.Tensor) -> Output:
        return Output(logits=self.y(batch["ids"]), loss=None, again=batch["mask"])


class Numbered(Net):
    def forward(self, levels: dict[int, torch.Tensor]) -> Any:
        return {"5": self.y(levels[3]), "7": levels[1]}


class Skipped(Net):
    def forward(self, x: torch.Tensor, bias: torch.Tensor | None = None, scale: torch.Tensor | None = None) -> Any:
        y = self.y(x) if bias is None else self.y(x) + bias
        return y if scale is None else y * scale


Case = tuple[type[Net], list[str], Callable[..., tuple[tuple[Any, ...], dict[str, Any]]], list[str], list[str]]

#: the network; what it is given; how torch is called with arrays in their order; the file's inputs and outputs
CASES: dict[str, Case] = {
    "a list": (
        Listed, ["boxes.0=4", "boxes.1=5"],
        lambda a, b: (([a, b],), {}),
        ["boxes_0", "boxes_1"], ["output_0", "output_1_0"],
    ),
    "a list in another order": (
        Listed, ["boxes.1=5", "boxes.0=4"],
        lambda a, b: (([b, a],), {}),
        ["boxes_1", "boxes_0"], ["output_0", "output_1_0"],
    ),
    "a tuple beside a tensor": (
        Tupled, ["pair.0=4", "pair.1=4", "x=4"],
        lambda x, a, b: ((x, (a, b)), {}),
        ["x", "pair_0", "pair_1"], ["sum"],
    ),
    "a dict of lists": (
        Nested, ["batch.levels.0=4", "batch.levels.1=4", "batch.info.size=scalar:int64"],
        lambda a, b, size: (({"levels": [a, b], "info": {"size": size}},), {}),
        ["batch_levels_0", "batch_levels_1", "batch_info_size"], ["levels_0", "levels_1", "rest"],
    ),
    "a dataclass": (
        Fields, ["scene.image=4"],
        lambda image: ((Scene(image, None),), {}),
        ["scene_image"], ["image", "gain"],
    ),
    "a dataclass and a named tuple by keyword": (
        Fields, ["scene.image=4", "scene.gain=4", "pair.right=4", "pair.left=4"],
        lambda image, gain, right, left: ((Scene(image, None, gain),), {"pair": Pair(left, right)}),
        ["scene_image", "scene_gain", "pair_right", "pair_left"], ["image", "gain"],
    ),
    "a keyword and one that may be None": (
        Keywords, ["scale=4", "x=4"],
        lambda x, scale: ((x, None), {"scale": scale}),
        ["x", "scale"], ["left", "right"],
    ),
    "keywords gathered": (
        Gathered, ["ids=4", "mask=3:bool"],
        lambda ids, mask: ((), {"ids": ids, "mask": mask}),
        ["ids", "mask"], ["logits", "again"],
    ),
    "numbers as keys": (
        Numbered, ["levels.3=4", "levels.1=4"],
        lambda a, b: (({3: a, 1: b},), {}),
        ["levels_3", "levels_1"], ["output_5", "output_7"],
    ),
    "a default between": (
        Skipped, ["x=4", "scale=4"],
        lambda x, scale: ((x,), {"scale": scale}),
        ["x", "scale"], ["output"],
    ),
}  # fmt: skip


def drawn(spec: normexport.InputSpec, batch: int) -> np.ndarray:
    rng = np.random.default_rng(batch)
    shape = spec.sized(batch)
    if spec.dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    return rng.integers(0, 9, shape) if spec.dtype == "int64" else rng.normal(size=shape).astype(np.float32)


def flat(value: Any) -> list[torch.Tensor]:
    """The tensors in it, in order of fields, keys and positions."""
    if isinstance(value, torch.Tensor):
        return [value]
    if dataclasses.is_dataclass(value):
        return flat([getattr(value, each.name) for each in dataclasses.fields(value)])
    if isinstance(value, dict):
        return flat(list(value.values()))
    return [] if value is None else [tensor for inner in value for tensor in flat(inner)]


@pytest.mark.parametrize("case", CASES)
def test_the_file_computes_what_forward_does_with_its_structures(case: str) -> None:
    made, texts, call, inputs, outputs = CASES[case]
    net = made()
    exported = export(net, parse_inputs(texts))
    proto = serialize_model(exported.model)
    onnx.checker.check_model(proto, full_check=True)
    session = ort.InferenceSession(proto.SerializeToString())
    assert [value.name for value in session.get_inputs()] == inputs == [spec.name for spec in exported.inputs]
    assert [value.name for value in session.get_outputs()] == outputs
    assert "forward" not in vars(net)
    report = check_model(net, exported.model, exported.layers, exported.inputs)
    assert report.judgement.verdict is Verdict.PASSED
    assert {row.tensor for row in report.outputs} == set(outputs)
    for batch in (1, 3):
        arrays = [drawn(spec, batch) for spec in exported.inputs]
        tensors = [
            torch.from_numpy(array.astype(np.float64) if array.dtype == np.float32 else array) for array in arrays
        ]
        arguments, named = call(*tensors)
        with torch.no_grad():
            wanted = flat(net.double()(*arguments, **named))
        found = session.run(None, dict(zip(inputs, arrays, strict=True)))
        for value, exact in zip(found, wanted, strict=True):
            np.testing.assert_allclose(value, exact.numpy(), rtol=1e-4, atol=1e-5)
        net.float()


def test_a_network_of_structures_is_converted_from_arrays_by_its_files_names(tmp_path: Path) -> None:
    net = Nested()
    arrays: dict[str, Any] = {
        f"batch_levels_{i}": np.random.default_rng(i).normal(size=(20, 4)).astype(np.float32) for i in (0, 1)
    }
    np.savez(tmp_path / "data.npz", **arrays, batch_info_size=np.arange(20))
    texts = CASES["a dict of lists"][1]
    config = normexport.ConvertConfig(data=tmp_path / "data.npz", precision=normexport.Half())
    done = normexport.convert(net, tmp_path / "out", texts, config)
    assert done.judgement.verdict is Verdict.PASSED
    held = normexport.parity(net, tmp_path / "out" / "model.onnx", data=tmp_path / "data.npz")
    assert held.judgement.verdict is Verdict.PASSED
    assert {row.tensor for row in held.outputs} == {"levels_0", "levels_1", "rest"}


def test_dotted_arrays_alone_say_what_a_network_reads(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {
        f"boxes.{i}": np.random.default_rng(i).normal(size=(20, 4 + i)).astype(np.float32) for i in (0, 1)
    }
    np.savez(tmp_path / "data.npz", **arrays)
    done = normexport.convert(Listed(), tmp_path / "out", config=normexport.ConvertConfig(data=tmp_path / "data.npz"))
    assert done.judgement.verdict is Verdict.PASSED


def test_programs_hold_what_was_none_or_a_number_when_they_were_exported(tmp_path: Path) -> None:
    class Plain(Net):
        def forward(self, x, skip, times, levels, *, note=None):  # type: ignore[no-untyped-def]  # as most are written
            assert skip is None
            assert note == "r"
            return {"left": self.y(x) * times, "right": None}, [level + 1 for level in levels["a"]]

    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(
        Plain(),
        (torch.zeros(2, 4), None, 3.0, {"a": [torch.zeros(2, 4), torch.zeros(2, 5)]}),
        {"note": "r"},
        dynamic_shapes={"x": batch, "skip": None, "times": None, "levels": {"a": [batch, batch]}, "note": None},
    )
    exported = export(program)
    assert [spec.name for spec in exported.inputs] == ["x", "levels_a_0", "levels_a_1"]
    assert check_model(program, exported.model, exported.layers, exported.inputs).passed
    asked = export(program, parse_inputs(["levels.a.0=4", "x=4"]))
    assert [spec.name for spec in asked.inputs] == ["x", "levels_a_0", "levels_a_1"]


@pytest.mark.parametrize(
    ("made", "texts", "said"),
    [
        (Listed, ["boxes.0=4", "boxes.2=4"], "gives positions 0, 2 of a list"),
        (Listed, ["boxes=4", "boxes.1=4"], "is a part of what Listed is given as a tensor by itself"),
        (Listed, ["boxes.1=4", "boxes.0=4", "boxes=4"], "is a part of what Listed is given as a tensor by itself"),
        (Listed, ["boxes.0=4", "boxes.1=5", "more.0=4"], r"is no parameter of Listed's forward\(boxes\)"),
        (Listed, ["boxes." + "0." * 3000 + "0=4"], "lies too deep"),
        (Tupled, ["x=4"], "is given without pair in Tupled's forward"),
        (Keywords, ["x=4"], "is given without scale"),
        (Fields, ["scene.picture=4"], "fails on scene_picture .*picture"),
    ],
)
def test_what_is_no_call_of_forward_is_told_in_one_line(made: type[Net], texts: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        export(made(), parse_inputs(texts))
    assert "\n" not in str(refused.value)


class Odd(Net):
    returns: Any

    def forward(self, x: torch.Tensor) -> Any:
        return type(self).returns(self.y(x))


@pytest.mark.parametrize(
    ("returns", "said"),
    [
        (lambda y: {"y": y, "classes": 10}, "returns 10, which is not a tensor"),
        (lambda y: {"y": y, "time": "night"}, "returns 'night', which is not a tensor"),
        (lambda y: {"y": [], "z": None}, "returns no tensor"),
        (lambda y: {y}, "can't be traced"),
        (lambda y: iter([y]), "can't be traced"),
    ],
)
def test_what_no_file_can_return_is_told_in_one_line(returns: Callable[[Any], Any], said: str) -> None:
    kind = type("Odd", (Odd,), {"returns": staticmethod(returns)})
    with pytest.raises(ExportError, match=said) as refused:
        export(kind(), parse_inputs(["x=4"]))
    assert "\n" not in str(refused.value)
