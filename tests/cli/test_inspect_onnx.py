"""`inspect` of an ONNX file: what it reads and returns, against what onnx itself reads in it."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import onnx
import pytest

from normexport.errors import ExitCode
from tests.cli.conftest import Run, save_plain


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    save_plain(tmp_path / "plain.onnx")
    return tmp_path / "plain.onnx"


def test_what_is_told_is_what_the_file_holds(plain: Path, run: Run) -> None:
    model = onnx.load(plain)
    found = json.loads(run("inspect", plain, "--json").stdout)["file"]
    assert found["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["N", 3, 8, 8]}]
    assert found["outputs"] == [{"name": "y", "dtype": "float32", "shape": ["N", 4, 6, 6]}]
    assert found["opsets"] == {each.domain: each.version for each in model.opset_import}
    assert found["operators"] == dict(Counter(node.op_type for node in model.graph.node))
    assert found["weights"] == {"float32": sum(math.prod(each.dims) for each in model.graph.initializer)}
    assert (found["bytes"], found["data_bytes"]) == (plain.stat().st_size, 0)
    assert (found["precision"], found["ir_version"]) == ("float32", model.ir_version)


def test_data_beside_the_file_are_counted_apart(plain: Path, run: Run, tmp_path: Path) -> None:
    beside = tmp_path / "beside.onnx"
    onnx.save(onnx.load(plain), beside, save_as_external_data=True, location="beside.data", size_threshold=0)
    found = json.loads(run("inspect", beside, "--json").stdout)["file"]
    assert found["data_bytes"] == (tmp_path / "beside.data").stat().st_size
    assert "of data beside it" in run("inspect", beside).stdout


def test_a_reader_sees_it_at_80_columns(plain: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = run("inspect", plain)
    assert result.exit_code == ExitCode.GOOD
    lines = result.stdout.splitlines()
    assert "reads      x Nx3x8x8 float32" in lines
    assert "returns    y Nx4x6x6 float32" in lines
    assert any(line.startswith("opset      ai.onnx 20") for line in lines)
    assert "norms      1 of 1 norms would fold" in lines
    assert max(map(len, lines)) <= 80


def test_a_converted_file_is_told_by_its_precision(plain: Path, run: Run) -> None:
    done = run("convert", plain, "-o", "half", "--precision", "fp16")
    assert "norms      1 of 1 norms folded" in done.stdout.splitlines()
    assert json.loads(run("inspect", "half/model.onnx", "--json").stdout)["file"]["precision"] == "float16"


def test_names_in_a_file_are_no_markup_and_no_commands_to_the_terminal(plain: Path, run: Run) -> None:
    model = onnx.load(plain)
    model.graph.node[0].input[0] = model.graph.input[0].name = "[bold]x\x1b[2J"
    model.producer_name = "[red]maker\n"
    onnx.save(model, plain)
    said = run("inspect", plain).stdout
    assert "[bold]x" in said
    assert "[red]maker" in said
    assert "\x1b" not in said
