"""`--input-names` and `--output-names`: what the file calls its ports; what is inside and called so gives way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnx.parser
import onnxruntime
import pytest
import torch
from torch import nn

import normexport
from normexport import ConvertConfig, ExportConfig, UsageError

pytestmark = pytest.mark.slow


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 3)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = torch.relu(self.a(left))
        return hidden - right, hidden + 2 * right


def source(door: str, folder: Path) -> tuple[Any, list[str], nn.Module]:
    torch.manual_seed(0)
    model = Two().eval()
    if door == "module":
        return model, ["left=3", "right=3"], model
    dims = ({0: torch.export.Dim("batch")},) * 2
    program = torch.export.export(model, (torch.randn(2, 3), torch.randn(2, 3)), dynamic_shapes=dims)
    torch.export.save(program, folder / "model.pt2")
    if door == "onnx":
        normexport.export(folder / "model.pt2", (), folder / "any.onnx")
        return folder / "any.onnx", [], model
    return folder / "model.pt2", [], model


@pytest.mark.parametrize("door", ["module", "program", "onnx"])
@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [(("x", "y"), ("p", "q")), (("a.weight", "a"), ("a.bias", "a/Relu")), (("right", "left"), ()), ((), ("q", "p"))],
)
def test_ports_have_the_asked_names_in_their_order_and_compute_the_same(
    door: str, inputs: tuple[str, ...], outputs: tuple[str, ...], tmp_path: Path
) -> None:
    given, shapes, model = source(door, tmp_path)
    config = ExportConfig(input_names=inputs, output_names=outputs)
    written = tmp_path / "out" / "model.onnx"
    if door == "module":
        written = tmp_path / "model.onnx"
        exported = normexport.export(given, shapes, written, config)
        assert [spec.name for spec in exported.inputs] == list(inputs or ("left", "right"))
    else:
        result = normexport.convert(given, tmp_path / "out", shapes, ConvertConfig(export=config))
        assert result.passed, result.judgement
    onnx.checker.check_model(onnx.load(written), full_check=True)
    session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == list(inputs or ("left", "right"))
    assert [each.name for each in session.get_outputs()] == list(outputs or ("output_0", "output_1"))
    left, right = torch.randn(4, 3), torch.randn(4, 3)
    names = [each.name for each in session.get_inputs()]
    found = session.run(None, dict(zip(names, (left.numpy(), right.numpy()), strict=True)))
    with torch.no_grad():
        for one, other in zip(found, model(left, right), strict=True):
            np.testing.assert_allclose(one, other.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"input_names": ("a", "a")}, "--input-names a: is given twice"),
        ({"input_names": ("a",), "output_names": ("a",)}, "--output-names a: is given twice"),
        ({"output_names": ("",)}, "empty"),
        ({"output_names": ("a\nb",)}, "unreadable"),
        ({"input_names": "ab"}, "is no sequence of names"),
    ],
)
def test_names_that_are_none_are_refused_where_they_are_given(words: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why) as refused:
        ExportConfig(**words)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"input_names": ("x",)}, "names 1, and .* reads left, right"),
        ({"output_names": ("x", "y", "z")}, "names 3, and .* returns output_0, output_1"),
        ({"output_names": ("left", "y")}, "name left: is that of another input or output"),
    ],
)
def test_names_that_do_not_fit_the_model_are_refused(words: dict[str, Any], why: str, tmp_path: Path) -> None:
    given, _, _ = source("program", tmp_path)
    with pytest.raises(UsageError, match=why):
        normexport.export(given, (), tmp_path / "model.onnx", ExportConfig(**words))
    assert not (tmp_path / "model.onnx").exists()


def test_an_output_that_is_an_input_has_one_name(tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[N,3] x) => (float[N,3] x, float[N,3] y) { y = Relu (x) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "any.onnx")
    config = ConvertConfig(export=ExportConfig(input_names=("a",), output_names=("b", "c")))
    with pytest.raises(UsageError, match="hands on what it is given"):
        normexport.convert(tmp_path / "any.onnx", tmp_path / "out", (), config)
