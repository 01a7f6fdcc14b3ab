"""`convert --precision` and `evaluate`: what they write and print, their exit codes, one line for each bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from normexport.errors import ExitCode
from tests.cli import small_nets
from tests.cli.conftest import Run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def samples(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An .npz of 64 inputs and the labels that the model itself gives them."""
    path = tmp_path_factory.mktemp("samples") / "data.npz"
    x = np.random.default_rng(0).normal(1, 2, (64, 3, 8, 8)).astype(np.float32)
    with torch.no_grad():
        labels = small_nets.trained()(torch.from_numpy(x)).argmax(1).numpy()
    np.savez(path, x=x, labels=labels)
    return path


def types(path: str) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}


@pytest.mark.parametrize(("words", "dtype"), [("fp16", onnx.TensorProto.FLOAT16), ("bf16", onnx.TensorProto.BFLOAT16)])
def test_convert_writes_half_precision_and_says_that_it_passed(
    words: str, dtype: int, made: Path, samples: Path, run: Run
) -> None:
    result = run("convert", made / "model.pt2", "--precision", words, "--data", samples, "-o", "out")
    assert result.exit_code == ExitCode.GOOD, result.output
    model = onnx.load("out/model.onnx")
    assert dtype in {weight.data_type for weight in model.graph.initializer}
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert "PRECISION PASSED" in result.stdout
    report = json.loads(Path("out/report.json").read_text())
    assert report["passed"]
    assert report["precision"]["accuracy"]["drop"] <= 2


@pytest.mark.parametrize("words", ["fp16", "bf16"])
def test_convert_proves_a_network_that_pytorch_does_not_run_in_half_precision(
    words: str, run: Run, tmp_path: Path
) -> None:
    x, dim = torch.randn(2, 6, 8), torch.export.Dim("batch")
    program = torch.export.export(small_nets.Masked().eval(), (x,), dynamic_shapes=({0: dim},))
    torch.export.save(program, tmp_path / "masked.pt2")
    result = run("convert", "masked.pt2", "--precision", words, "-o", "out")
    assert result.exit_code == ExitCode.GOOD, result.output
    assert "nothing kept in float32" in result.stdout
    report = json.loads(Path("out/report.json").read_text())
    assert ["-1e+09" in note for note in report["precision"]["notes"]] == ([True] if words == "fp16" else [])


def test_io_dtype_and_keep_list_reach_the_file(made: Path, run: Run) -> None:
    how = ("--precision", "fp16", "--io-dtype", "float16", "--keep-fp32", "conv")
    assert run("convert", made / "model.pt2", *how, "-o", "out").exit_code == ExitCode.GOOD
    graph = onnx.load("out/model.onnx").graph
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    (conv,) = [node for node in graph.node if node.op_type == "Conv"]
    types = {weight.name: weight.data_type for weight in graph.initializer}
    assert types[conv.input[1]] == onnx.TensorProto.FLOAT


def test_convert_writes_int8_its_cache_and_its_verdict(made: Path, samples: Path, run: Run, tmp_path: Path) -> None:
    how = ("--precision", "int8", "--data", samples, "--calibration-cache", tmp_path / "cache.json", "--max-drop", 5)
    result = run("convert", made / "model.pt2", *how, "--sensitivity", "-o", "out")
    assert result.exit_code == ExitCode.GOOD, result.output
    assert {"QuantizeLinear", "DequantizeLinear"} <= types("out/model.onnx")
    assert "alone in int8" in result.stdout
    report = json.loads(Path("out/report.json").read_text())["precision"]
    assert report["calibration"]["samples"] == 48
    assert report["accuracy"]["samples"] == 16
    assert {each["path"] for each in report["sensitivity"]} >= {"conv", "head"}
    again = run("convert", made / "model.pt2", *how, "-o", "again")
    assert "ranges read from" in again.stdout
    assert (tmp_path / "out/model.onnx").read_bytes() == (tmp_path / "again/model.onnx").read_bytes()


def test_high_effort_says_what_each_edit_gave(made: Path, samples: Path, run: Run) -> None:
    how = ("--precision", "int8", "--data", samples, "--max-drop", 5, "--effort", "high")
    result = run("convert", made / "model.pt2", *how, "-o", "out")
    assert result.exit_code == ExitCode.GOOD, result.output
    edits = json.loads(Path("out/report.json").read_text())["precision"]["edits"]
    assert [edit["name"] for edit in edits] == ["equalised", "biases absorbed", "biases corrected", "weights rounded"]
    for edit in edits:
        assert f"{edit['name'] if edit['kept'] else 'not ' + edit['name']}: " in result.stdout
        assert edit["reasons"] or edit["kept"]


@pytest.mark.parametrize("how", [("int8", "--effort", "quick"), ("fp16", "--effort", "high")])
def test_an_effort_that_means_nothing_is_one_line(made: Path, run: Run, how: tuple[str, ...]) -> None:
    result = run("convert", made / "model.pt2", "--precision", *how, "-o", "out")
    assert result.exit_code == ExitCode.USAGE
    assert "--effort" in result.output
    assert not Path("out").exists()


def test_a_limit_that_nothing_can_hold_fails_with_exit_code_1_and_shows_the_way(
    made: Path, samples: Path, run: Run
) -> None:
    how = ("--precision", "int8", "--data", samples, "--max-drop", -1)
    result = run("convert", made / "model.pt2", *how, "-o", "out")
    assert result.exit_code == ExitCode.FAILED
    assert "PRECISION FAILED" in result.stdout
    curve = json.loads(Path("out/report.json").read_text())["precision"]["curve"]
    assert len(curve) > 2
    assert [len(step["excluded"]) for step in curve] == list(range(len(curve)))
    assert curve[-1]["snr_db"] is None or curve[-1]["snr_db"] > curve[0]["snr_db"]


def test_evaluate_counts_what_is_right_in_onnx_files_and_checkpoints(
    made: Path, converted: Path, samples: Path, run: Run
) -> None:
    for model in (converted / "model.onnx", made / "model.pt2"):
        result = run("evaluate", model, "--data", samples, "--reference", made / "model.pt2", "--json")
        assert result.exit_code == ExitCode.GOOD, result.output
        found = json.loads(result.stdout)
        assert (found["samples"], found["correct"], found["agreement"], found["drop"]) == (64, 64, 1, 0)
        low, high = found["interval"]
        assert (low, high) == pytest.approx((0.9434, 1.0), abs=1e-4)  # Wilson: n / (n + 1.96^2)
    assert "95 % interval" in run("evaluate", converted / "model.onnx", "--data", samples).stdout


def spoiled(folder: Path, **changes: Any) -> Path:
    images = np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32)
    arrays: dict[str, Any] = {"x": images, "labels": np.zeros(8, int), **changes}
    np.savez(folder / "bad.npz", **{name: array for name, array in arrays.items() if array is not None})
    return folder / "bad.npz"


INT8 = ("--precision", "int8", "--data")
SAMPLES = ("--precision", "int8", "--calibration-data")


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (lambda folder: ("--precision", "fp4"), "fp4"),
        (lambda folder: ("--precision", "int8"), "--calibration-data"),
        (lambda folder: (*INT8, spoiled(folder), "--io-dtype", "float16"), "--io-dtype"),
        (lambda folder: ("--precision", "fp16", "--calibration-data", "x.npz"), "--calibration-data"),
        (lambda folder: ("--precision", "fp16", "--io-dtype", "int8"), "--io-dtype int8"),
        (lambda folder: ("--precision", "fp16", "--keep-fp32", "layer9"), "layer9"),
        (lambda folder: ("--precision", "int8", "--calibration", "magic"), "magic"),
        (lambda folder: ("--precision", "int8", "--calibration-batch", 0), "--calibration-batch"),
        (lambda folder: ("--precision", "int8", "--min-snr", "nan"), "--min-snr nan"),
        (lambda folder: ("--precision", "int8", "--calibration-data", folder), "no images"),
        (lambda folder: (*SAMPLES, folder / "none.npz"), "can't be read"),
        (lambda folder: (*SAMPLES, spoiled(folder, x=np.zeros((0, 3, 8, 8), np.float32))), "shape (0, 3, 8, 8)"),
        (lambda folder: (*SAMPLES, spoiled(folder, x=np.full((8, 3, 8, 8), np.inf, np.float32))), "not finite"),
        (lambda folder: (*INT8, spoiled(folder, x=np.ones((8, 3, 9, 9), np.float32))), "shape"),
        (lambda folder: (*INT8, spoiled(folder, x=np.ones((8, 3, 8, 8), np.float32))), "1 throughout"),
        (lambda folder: (*INT8, spoiled(folder, x=np.full((8, 3, 8, 8), np.nan, np.float32))), "NaN"),
        (lambda folder: (*INT8, spoiled(folder, x=np.full((8, 3, 8, 8), "a"))), "dtype"),
        (lambda folder: (*INT8, spoiled(folder, labels=np.full(8, 7))), "classes 0 to 3"),
        (lambda folder: (*INT8, spoiled(folder, labels=np.zeros(5, int))), "labels"),
        (lambda folder: (*INT8, spoiled(folder, labels=np.zeros(8))), "whole numbers"),
    ],
)
def test_bad_precision_options_and_data_get_one_line_and_nothing_written(
    words: Callable[..., Any], place: str, made: Path, run: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    result = run("convert", made / "model.pt2", *words(folder), "-o", tmp_path / "out")
    assert result.exit_code == ExitCode.USAGE, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert place in line
    assert not (tmp_path / "out").exists()


def test_a_cache_of_another_model_is_refused(made: Path, samples: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "cache.json").write_text(
        json.dumps(
            {
                "format": 2,
                "ranges": {},
                "method": "mse",
                "symmetric": False,
                "model": "0" * 64,
                "data": "0" * 64,
                "samples": 1,
                "batch": 1,
                "seen": [],
            }
        )
    )
    words = ("--precision", "int8", "--data", samples, "--calibration-cache", tmp_path / "cache.json")
    result = run("convert", made / "model.pt2", *words, "-o", tmp_path / "out")
    assert result.exit_code == ExitCode.USAGE
    assert "another model" in result.stderr


@pytest.mark.parametrize(
    ("change", "place"), [({"labels": None}, "no array labels"), ({"labels": np.full(8, -1)}, "label")]
)
def test_evaluate_says_what_is_wrong_with_the_labels(
    change: dict[str, Any], place: str, converted: Path, run: Run, tmp_path: Path
) -> None:
    result = run("evaluate", converted / "model.onnx", "--data", spoiled(tmp_path, **change))
    assert result.exit_code == ExitCode.USAGE
    (line,) = result.stderr.splitlines()
    assert place in line


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (("int8", "--remainder", "fp16"), "on integers, the rest in float16"),
        (("int8", "--remainder", "bf16"), "on integers, the rest in bfloat16"),
        (("int8", "--remainder", "fp32"), "on integers"),
        (("fp8",), "on fp8"),
    ],
)
def test_eight_bits_say_what_they_hold(made: Path, samples: Path, run: Run, how: tuple[str, ...], told: str) -> None:
    result = run("convert", made / "model.pt2", "--precision", *how, "--data", samples, "--max-drop", 10, "-o", "out")
    assert result.exit_code == ExitCode.GOOD, result.output
    assert told in result.stdout
    report = json.loads(Path("out/report.json").read_text())["precision"]
    wanted = {"fp16": "float16", "bf16": "bfloat16"}.get(how[-1], "float32")
    assert (report["dtype"], report["remainder"]) == ("float8_e4m3fn" if how[0] == "fp8" else "int8", wanted)
    assert report["integer_nodes"] > 0


@pytest.mark.parametrize(
    ("how", "word"),
    [
        (("int8", "--remainder", "fp64"), "--remainder fp64"),
        (("fp16", "--remainder", "fp16"), "--remainder"),
        (("fp8", "--symmetric"), "--symmetric"),
        (("fp8", "--calibration", "entropy"), "--calibration entropy"),
        (("fp8", "--opset", "20"), "--opset 20"),
        (("int8", "--io-dtype", "float16", "--remainder", "bf16"), "--io-dtype float16"),
    ],
)
def test_what_eight_bits_can_not_be_is_one_line(made: Path, run: Run, how: tuple[str, ...], word: str) -> None:
    result = run("convert", made / "model.pt2", "--precision", *how, "-o", "out")
    assert result.exit_code == ExitCode.USAGE
    assert word in result.output
    assert not Path("out").exists()
