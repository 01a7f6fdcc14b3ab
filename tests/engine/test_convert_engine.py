"""`normexport convert --engine`: a checkpoint becomes a plan in one command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from normexport_cli.app import app
from typer.testing import CliRunner

from examples import index
from normexport.errors import ExitCode

pytestmark = pytest.mark.slow

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'normexport[rtx]'")

CHECKPOINT = str(index.CHECKPOINTS / "bounded_linf.pt2")


@pytest.fixture
def convert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, ["convert", CHECKPOINT, "-o", "out", *words])


def test_the_plan_lies_beside_the_file_it_was_built_from(convert: Callable[..., Any], tmp_path: Path) -> None:
    result = convert("--engine", "--target", "sm89")
    assert result.exit_code == ExitCode.GOOD, result.stderr
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {"model.onnx", "model.layers.json", "model.plan", "model.plan.json", "report.json", "report.html"}
    assert "engine     tensorrt-rtx" in result.stdout
    assert result.stdout.strip().endswith("PARITY PASSED")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    manifest = json.loads((tmp_path / "out" / "model.plan.json").read_text())
    assert report["engine"]["plan"] == manifest["plan"]
    assert manifest["precision"] == {"float32": 4}


def test_a_model_lowered_to_int8_becomes_an_int8_engine(convert: Callable[..., Any], tmp_path: Path) -> None:
    data = str(index.CHECKPOINTS.parent / "digits.npz")
    result = convert("--engine", "--target", "sm89", "--precision", "int8", "--data", data)
    assert result.exit_code == ExitCode.GOOD, result.stderr
    manifest = json.loads((tmp_path / "out" / "model.plan.json").read_text())
    assert manifest["options"]["precision"] == "int8", "it was demanded"
    assert manifest["precision"] == {"int8": 4}


@pytest.mark.parametrize(
    ("words", "code", "place"),
    [
        (("--engine", "--target", "sm90"), 5, "target sm90"),
        (("--engine", "--flavor", "tensorrt"), 6, "tensorrt"),
        (("--target", "sm89"), 2, "--target"),
        (("--no-plugins",), 2, "--no-plugins"),
    ],
)
def test_an_engine_that_can_not_be_built_is_told_before_anything_slow_is_done(
    convert: Callable[..., Any], tmp_path: Path, words: tuple[str, ...], code: int, place: str
) -> None:
    result = convert(*words)
    (line,) = result.stderr.strip().splitlines()
    assert (result.exit_code, place in line) == (code, True)
    assert not list(tmp_path.iterdir())


def two_sizes_without_a_name(path: Path) -> None:
    """A ReLU of images whose height and width the file calls "?", as one exporter writes sizes it has no name for."""
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 3, "?", "?"])
    answer = onnx.helper.make_tensor_value_info("answer", onnx.TensorProto.FLOAT, ["N", 3, None, None])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["image"], ["answer"])], "g", [image], [answer])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9), path)


def test_sizes_that_input_gives_are_those_of_the_profile_whatever_the_file_calls_them(tmp_path: Path) -> None:
    two_sizes_without_a_name(tmp_path / "any.onnx")
    words = ["convert", str(tmp_path / "any.onnx"), "-o", str(tmp_path / "out"), "--input", "image=3x16x48"]
    result = CliRunner().invoke(app, [*words, "--engine", "--target", "sm89"])
    assert result.exit_code == ExitCode.GOOD, result.stderr
    (read,) = json.loads((tmp_path / "out" / "model.plan.json").read_text())["inputs"]
    assert (read["smallest"], read["largest"]) == ([1, 3, 16, 48], [32, 3, 16, 48])


def test_a_file_is_kept_with_its_report_where_tensorrt_can_not_build_it(tmp_path: Path) -> None:
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 6]) for name in "xy")
    nodes = [
        onnx.helper.make_node("DynamicQuantizeLinear", ["x"], ["whole", "scale", "zero"]),
        onnx.helper.make_node("DequantizeLinear", ["whole", "scale", "zero"], ["near"]),
        onnx.helper.make_node("Add", ["near", "x"], ["y"]),
    ]
    graph = onnx.helper.make_graph(nodes, "g", [x], [y])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "any.onnx")
    out = tmp_path / "out"
    words = ["convert", str(tmp_path / "any.onnx"), "-o", str(out), "--engine", "--target", "sm89"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == ExitCode.ENGINE
    assert "DynamicQuantizeLinear" in result.stderr
    assert f"{out / 'model.onnx'} is written, and its report" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert {file.name for file in out.iterdir()} == {"model.onnx", "model.layers.json", "report.json", "report.html"}
    report = json.loads((out / "report.json").read_text())
    assert report["engine"] is None
    assert report["notes"][-1].startswith("no engine: node DynamicQuantizeLinear")
