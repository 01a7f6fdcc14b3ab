"""`normexport bisect`: what it prints, writes and leaves with; the script runs from any folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from normexport.errors import ExitCode
from tests.cli.conftest import Run, save_plain

FILES = {"bisect.onnx", "input.npz", "show.py"}


@pytest.fixture
def right(tmp_path: Path) -> Path:
    save_plain(tmp_path / "right.onnx")
    return tmp_path / "right.onnx"


@pytest.fixture
def wrong(right: Path) -> Path:
    """One number of a convolution's weight is another."""
    model = onnx.load(right)
    tensor = next(each for each in model.graph.initializer if each.name == "w")
    array = numpy_helper.to_array(tensor).copy()
    array[2, 1, 1, 1] += 0.7
    tensor.CopyFrom(numpy_helper.from_array(array, "w"))
    onnx.save(model, right.with_name("wrong.onnx"))
    return right.with_name("wrong.onnx")


def test_a_wrong_weight_is_found_named_and_shown(right: Path, wrong: Path, run: Run, tmp_path: Path) -> None:
    result = run("bisect", right, wrong, "-o", "fault")
    assert result.exit_code == ExitCode.FAILED, result.output
    assert "Conv" in result.stdout
    assert result.stdout.strip().splitlines()[-1].startswith("PARITY FAILED")
    assert {file.name for file in (tmp_path / "fault").iterdir()} == FILES
    part = onnx.load(tmp_path / "fault" / "bisect.onnx")
    assert [node.op_type for node in part.graph.node] == ["Conv"]


@pytest.mark.parametrize("where", [".", "fault", "elsewhere"])
def test_the_script_runs_from_any_folder(right: Path, wrong: Path, run: Run, tmp_path: Path, where: str) -> None:
    run("bisect", right, wrong, "-o", "fault")
    (tmp_path / "elsewhere").mkdir()
    script = tmp_path / "fault" / "show.py"
    done = subprocess.run(
        [sys.executable, "-I", script], cwd=tmp_path / where, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error ")
    assert "allowed" in done.stderr
    assert len(script.read_text().splitlines()) == 5
    assert str(tmp_path) not in script.read_text()


def test_the_script_says_nothing_once_the_part_is_right(right: Path, wrong: Path, run: Run, tmp_path: Path) -> None:
    """The witness against a script that always fails: the weight put right in the part."""
    run("bisect", right, wrong, "-o", "fault")
    part = onnx.load(tmp_path / "fault" / "bisect.onnx")
    good = next(each for each in onnx.load(right).graph.initializer if each.name == "w")
    next(each for each in part.graph.initializer if list(each.dims) == list(good.dims)).raw_data = good.raw_data
    onnx.save(part, tmp_path / "fault" / "bisect.onnx")
    done = subprocess.run([sys.executable, "fault/show.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_equal_files_pass_and_write_nothing(right: Path, run: Run, tmp_path: Path) -> None:
    result = run("bisect", right, right, "-o", "fault")
    assert result.exit_code == ExitCode.GOOD, result.output
    assert not (tmp_path / "fault").exists()


def test_json_is_one_document_with_the_fault(right: Path, wrong: Path, run: Run) -> None:
    result = run("bisect", right, wrong, "--json")
    found = json.loads(result.stdout)
    assert (found["verdict"], result.exit_code) == ("failed", ExitCode.FAILED)
    assert {Path(file).name for file in found["files"]} == FILES
    assert result.stderr == ""


def test_real_data_are_tried_first_and_what_does_not_fit_is_refused(right: Path, wrong: Path, run: Run) -> None:
    np.savez("x.npz", x=np.random.default_rng(0).normal(size=(3, 3, 8, 8)).astype(np.float32))
    assert run("bisect", right, wrong, "--data", "x.npz").exit_code == ExitCode.FAILED
    np.savez("other.npz", x=np.zeros((3, 1, 8, 8), np.float32))
    assert run("bisect", right, wrong, "--data", "other.npz").exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (("right.onnx", "right.pt2"), "right.pt2: is no ONNX file"),
        (("right.onnx", "wrong.onnx", "--runtime", "openvino"), "--runtime openvino: is none"),
        (("right.onnx", "wrong.onnx", "-o", "right.onnx"), "right.onnx"),
        (("right.onnx", "wrong.onnx", "--trust"), "--trust: means nothing here"),
        (("right.onnx", "wrong.onnx", "--min-snr", "nan"), "--min-snr nan: is not a limit"),
        (("none.onnx", "wrong.onnx"), "none.onnx: can't be read"),
    ],
)
def test_what_can_not_be_meant_is_one_line(
    right: Path, wrong: Path, run: Run, words: tuple[str, ...], cause: str, tmp_path: Path
) -> None:
    before = right.read_bytes(), wrong.read_bytes()
    result = run("bisect", *words)
    assert result.exit_code == ExitCode.USAGE
    assert result.stderr.startswith("error: ")
    assert cause in result.stderr
    assert result.stderr.count("\n") == 1
    assert (right.read_bytes(), wrong.read_bytes()) == before
    assert {file.name for file in tmp_path.iterdir()} == {"right.onnx", "wrong.onnx"}
