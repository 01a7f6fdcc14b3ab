"""--input with ranges and --batches, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import Result

from normexport.errors import ExitCode
from tests.cli.conftest import Run


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    """0.5 * x for whole numbers x of the shape (N, 4)."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["a"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["a", "s"], ["y"]),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(np.array(0.5, np.float32), "s")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "scores.onnx")
    return tmp_path / "scores.onnx"


def batches(result: Result) -> list[str]:
    return [row["batch"].split("batch ")[1].split(",")[0] for row in json.loads(result.stdout)["outputs"]]


def test_the_report_says_which_whole_numbers_were_tried(scores: Path, run: Run) -> None:
    result = run("parity", scores, scores, "--json")
    assert result.exit_code == ExitCode.GOOD, result.stderr
    assert f"x: whole numbers tried: {-(2**63)}..{2**63 - 1}" in json.loads(result.stdout)["notes"]
    bounded = run("parity", scores, scores, "--json", "--input", "x=4:int64[0..1000]")
    assert "x: whole numbers tried: 0..1000 as --input says" in json.loads(bounded.stdout)["notes"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x=4:int64[5..1]", "the range [5..1] ends before it begins"),
        ("x=4:int64[a..b]", "is not a range of whole numbers; write it as int64[0..1000]"),
        ("x=4:int64[0..1.5]", "is not a range of whole numbers"),
        ("x=4:uint8[-1..5]", "uint8 holds 0 to 255 only"),
        ("x=4:int64[0..9223372036854775808]", "holds -9223372036854775808 to 9223372036854775807 only"),
        ("x=4:float32[0..nan]", "is not a range of numbers"),
        ("x=4:bool[0..1]", "bounds a bool"),
        ("x=4[0..1]", "is not a shape"),
        ("x=5", "does not fit the model, which reads x=Nx4:int64"),
        ("x=4:float32[0..1]", "is given as float32, and the model reads int64"),
        ("z=4", "the model reads x"),
    ],
)
def test_ranges_and_shapes_that_make_no_sense_are_refused_in_one_line(
    scores: Path, run: Run, text: str, words: str
) -> None:
    result = run("parity", scores, scores, "--input", text)
    assert result.exit_code == ExitCode.USAGE
    assert words in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_parity_compares_at_the_batch_sizes_asked_for(scores: Path, run: Run) -> None:
    result = run("parity", scores, scores, "--json", "--batches", "1,8", "--input", "x=4:int64[0..9]")
    assert batches(result) == ["1", "8"]


@pytest.mark.slow
def test_convert_compares_at_the_batch_sizes_asked_for(made: Path, run: Run) -> None:
    result = run("convert", made / "model.pt2", "-o", "out", "--json", "--batches", "3")
    assert result.exit_code == ExitCode.GOOD, result.stderr
    outputs = json.loads(result.stdout)["parity"]["outputs"]
    assert {row["batch"] for row in outputs} == {"random x1, batch 3"}


@pytest.mark.parametrize("text", ["", "0", "1,,2", "-1", "a", "1.5", "1;2", "99999999999"])
def test_batch_sizes_that_are_none_are_refused(scores: Path, run: Run, text: str) -> None:
    result = run("parity", scores, scores, "--batches", text)
    assert result.exit_code == ExitCode.USAGE
    assert "is not a list of batch sizes; write it as 1,8" in " ".join(result.stderr.split())
