"""What inputs are called where nobody says: as forward calls them, whatever the network came in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import normexport
from normexport import ConvertConfig, InputSpec, Verdict
from normexport import nn as nxn
from normexport.verbs.subjects import agreed_inputs, opened_checkpoint

pytestmark = pytest.mark.slow


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nxn.L1BatchNorm2d(4)
        self.eval()

    def forward(self, image: torch.Tensor, gain: torch.Tensor | None = None, *more: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.conv(image)).mean((2, 3))
        return sum(more, y if gain is None else y * gain)


def read_by(path: Path) -> list[str]:
    return [value.name for value in onnx.load(path).graph.input]


def test_a_module_a_file_of_it_and_its_program_read_the_same_names(tmp_path: Path) -> None:
    model, batch = Scaled(), torch.export.Dim("batch")
    torch.save(model, tmp_path / "model.pt")
    torch.export.save(
        torch.export.export(model, (torch.zeros(2, 3, 8, 8),), dynamic_shapes={"image": {0: batch}}),
        tmp_path / "model.pt2",
    )
    trusted = normexport.load(tmp_path / "model.pt", trust=True)
    sources: list[tuple[Any, list[str]]] = [(model, ["3x8x8"]), (trusted, ["3x8x8"]), (tmp_path / "model.pt2", [])]
    sources.append((tmp_path / "model.pt2", ["3x8x8"]))
    for index, (source, inputs) in enumerate(sources):
        normexport.export(source, inputs, tmp_path / f"{index}.onnx")
        assert read_by(tmp_path / f"{index}.onnx") == ["image"]
    for given in ("input", "x", "image"):
        normexport.export(tmp_path / "model.pt2", [f"{given}=3x8x8"], tmp_path / "given.onnx")
        assert read_by(tmp_path / "given.onnx") == [given]
    np.savez(tmp_path / "data.npz", input=np.random.default_rng(0).normal(size=(32, 3, 8, 8)))
    normexport.convert(tmp_path / "model.pt2", tmp_path / "out", (), ConvertConfig(data=tmp_path / "data.npz"))
    assert read_by(tmp_path / "out" / "model.onnx") == ["image"]


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        (["3x8x8", "4"], ["image", "gain"]),
        (["3x8x8", "4", "4", "4"], ["image", "gain", "more_0", "more_1"]),
        (["input=3x8x8"], ["input"]),
        ([InputSpec("input", (3, 8, 8))], ["input"]),
        (["a=3x8x8", "b=4"], ["a", "b"]),
        (["gain=4", "image=3x8x8"], ["image", "gain"]),
    ],
)
def test_names_that_are_given_win(inputs: list[str | InputSpec], names: list[str], tmp_path: Path) -> None:
    normexport.export(Scaled(), inputs, tmp_path / "model.onnx")
    assert read_by(tmp_path / "model.onnx") == names


def test_a_layer_by_itself_reads_what_torch_calls_it(tmp_path: Path) -> None:
    normexport.export(nn.Sequential(nn.Linear(3, 2)).eval(), ["3"], tmp_path / "model.onnx")
    assert read_by(tmp_path / "model.onnx") == ["input"]


def test_data_under_the_names_of_before_serve_still(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "one.npz", input=rng.normal(size=(32, 3, 8, 8)), labels=np.zeros(32, int))
    done = normexport.convert(Scaled(), tmp_path / "out", ["3x8x8"], ConvertConfig(data=tmp_path / "one.npz"))
    assert done.judgement.verdict is Verdict.PASSED
    assert read_by(tmp_path / "out" / "model.onnx") == ["image"]
    found = normexport.evaluate(tmp_path / "out" / "model.onnx", tmp_path / "one.npz", Scaled())
    assert found.samples == 32
    np.savez(tmp_path / "two.npz", input_0=rng.normal(size=(9, 3, 8, 8)), gain=rng.normal(size=(9, 4)))
    held = normexport.parity(Scaled(), Scaled(), ["3x8x8", "4"], data=tmp_path / "two.npz")
    assert held.judgement.verdict is Verdict.PASSED


class Difference(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a - 2 * b


class Turned(nn.Module):
    def forward(self, b: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        return b - 2 * a


class Shifted(nn.Module):
    def forward(self, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return b - 2 * c


@pytest.mark.parametrize("other", [Turned, Shifted])
def test_modules_that_call_their_inputs_otherwise_are_fed_in_line(other: type[nn.Module]) -> None:
    held = normexport.parity(Difference().eval(), other().eval(), ["3", "3"])
    assert held.judgement.verdict is Verdict.PASSED, held.judgement.reasons


class Alike(nn.Module):
    """Its own weight has the name of its input, and the first of `*xs` that of the parameter before."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))

    def forward(self, weight: torch.Tensor, xs_0: torch.Tensor, *xs: torch.Tensor) -> torch.Tensor:
        return sum(xs, weight * self.weight - xs_0)


@pytest.mark.parametrize("count", [2, 3])
def test_names_that_stand_for_something_else_too_do_no_harm(count: int, tmp_path: Path) -> None:
    normexport.export(Alike().eval(), ["3"] * count, tmp_path / "model.onnx")
    names = read_by(tmp_path / "model.onnx")
    assert len(set(names)) == count
    feeds = [np.full((2, 3), value, np.float32) for value in (1, 5, 7)[:count]]
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, dict(zip(names, feeds, strict=True)))
    np.testing.assert_array_equal(y, np.tile([[1, -2, 3]], (2, 1)) - 5.0 + (7 if count == 3 else 0))


def test_an_array_without_a_name_gets_that_of_forward(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.random.default_rng(0).normal(size=(9, 3, 8, 8)))
    normexport.convert(Scaled(), tmp_path / "out", config=ConvertConfig(data=tmp_path / "images.npy"))
    assert read_by(tmp_path / "out" / "model.onnx") == ["image"]
    agreed = agreed_inputs([opened_checkpoint(Scaled())], (), tmp_path / "images.npy")
    assert [spec.name for spec in agreed] == ["image"]
