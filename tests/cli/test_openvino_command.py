"""OpenVINO on the command line: a file is proven on it, written for it, and without it said to need it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from normexport.errors import ExitCode
from normexport.runtime import OpenVinoRuntime
from tests.cli.conftest import ROOT, Run
from tests.foreign import needs_openvino

pytestmark = pytest.mark.slow


@needs_openvino
def test_convert_proves_on_openvino_and_writes_its_files(made: Path, run: Run, tmp_path: Path) -> None:
    done = run("convert", made / "model.pt2", "-o", "out", "--runtime", "openvino", "--openvino", "--json")
    assert done.exit_code == ExitCode.GOOD, done.stderr
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert report["parity"]["candidate"] == "OpenVINO"
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"model.xml", "model.bin", "model.onnx"} <= written
    assert {Path(file).name for file in report["files"]} == written


@needs_openvino
def test_one_int8_file_is_proven_on_both_runtimes(made: Path, run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", input=rng.standard_normal((64, 3, 8, 8)).astype(np.float32))
    words = ("--precision", "int8", "--symmetric", "--data", "data.npz", "--min-snr", "10")
    done = run("convert", made / "model.pt2", "-o", "out", *words, "--runtime", "openvino")
    assert done.exit_code == ExitCode.GOOD, done.stdout + done.stderr
    for runtime in ("onnxruntime", "openvino"):
        judged = ("--data", "data.npz", "--min-snr", "10", "--runtime", runtime, "--json")
        done = run("parity", made / "model.pt2", "out/model.onnx", *judged)
        assert done.exit_code == ExitCode.GOOD, done.stdout + done.stderr
        named = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}[runtime]
        assert json.loads(done.stdout)["candidate"] == named


@needs_openvino
@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_half_precision_is_proven_beside_by_the_file_itself(made: Path, run: Run, dtype: str) -> None:
    done = run("convert", made / "model.pt2", "-o", "out", "--precision", dtype, "--runtime", "openvino", "--json")
    assert done.exit_code == ExitCode.GOOD, done.stdout + done.stderr
    assert json.loads(done.stdout)["parity"]["candidate"] == "OpenVINO"


@needs_openvino
def test_a_file_that_openvino_computes_otherwise_fails(
    made: Path, converted: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    infer = OpenVinoRuntime._infer

    def wrong(self: OpenVinoRuntime, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: value * np.float32(1.01) for name, value in infer(self, arrays).items()}

    monkeypatch.setattr(OpenVinoRuntime, "_infer", wrong)
    words = ("parity", made / "model.pt2", converted / "model.onnx")
    assert run(*words, "--runtime", "openvino").exit_code == ExitCode.FAILED
    assert run(*words).exit_code == ExitCode.GOOD


def test_convert_writes_no_functions_where_asked(made: Path, run: Run, tmp_path: Path) -> None:
    done = run("convert", made / "model.pt2", "-o", "out", "--no-fold", "--inline")
    assert done.exit_code == ExitCode.GOOD, done.stdout + done.stderr
    _check_plain(tmp_path / "out" / "model.onnx")


def test_export_and_fold_write_no_functions_where_asked(made: Path, run: Run, tmp_path: Path) -> None:
    assert run("export", made / "model.pt2", "-o", "with.onnx").exit_code == ExitCode.GOOD
    assert onnx.load(tmp_path / "with.onnx").functions, "nothing to leave out"
    assert run("export", made / "model.pt2", "-o", "plain.onnx", "--inline").exit_code == ExitCode.GOOD
    _check_plain(tmp_path / "plain.onnx")
    assert run("fold", "with.onnx", "-o", "folded.onnx", "--inline").exit_code == ExitCode.GOOD
    _check_plain(tmp_path / "folded.onnx")
    assert run("parity", "with.onnx", "plain.onnx").exit_code == ExitCode.GOOD


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("parity", "{net}", "{onnx}", "--runtime", "cuda"), "--runtime cuda: is no runtime; choose onnxruntime or"),
        (("evaluate", "{onnx}", "--data", "{data}", "--runtime", ""), "is no runtime"),
        (
            ("convert", "{net}", "--inline", "--engine"),
            "--inline: takes the operators that the engine's",
        ),
    ],
    ids=["unknown", "empty", "engine"],
)
def test_what_means_nothing_is_refused_in_one_line(
    words: tuple[str, ...], message: str, made: Path, converted: Path, run: Run, tmp_path: Path
) -> None:
    places = {"net": made / "model.pt2", "onnx": converted / "model.onnx", "data": ROOT / "examples" / "digits.npz"}
    done = run(*(word.format(**places) for word in words))
    assert done.exit_code == ExitCode.USAGE
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@needs_openvino
@pytest.mark.parametrize("command", ["parity", "evaluate"])
def test_the_runtime_of_a_checkpoint_is_not_for_choice(command: str, made: Path, run: Run) -> None:
    data = ("--data", str(ROOT / "examples" / "digits.npz")) if command == "evaluate" else (str(made / "model.pt2"),)
    done = run(command, made / "model.pt2", *data, "--runtime", "openvino")
    assert done.exit_code == ExitCode.USAGE
    assert "--runtime openvino: means nothing here: it is for an ONNX file; leave it out" in done.stderr


@pytest.mark.parametrize("option", [("--openvino",), ("--runtime", "openvino")])
def test_without_openvino_nothing_is_written(
    option: tuple[str, ...], made: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    done = run("convert", made / "model.pt2", "-o", "out", *option)
    assert done.exit_code == ExitCode.MISSING
    assert done.stderr == "error: openvino: is not installed; run: pip install 'normexport[openvino]'\n"
    assert not list(tmp_path.iterdir())


def _check_plain(path: Path) -> None:
    proto = onnx.load(path)
    assert not proto.functions
    assert {opset.domain for opset in proto.opset_import} == {""}
    assert not {node.domain for node in proto.graph.node} - {""}
