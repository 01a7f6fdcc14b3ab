"""What can be refused at once is refused before PyTorch is imported, or, where the graph decides, before the proof."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from normexport import proof
from normexport.errors import ExitCode
from tests.cli.conftest import Run, environment

#: Runs a command line in a process that can't import PyTorch and says so if it tries.
WITHOUT_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise SystemExit("imported torch")
sys.meta_path.insert(0, Refuse())
sys.argv = ["normexport", *sys.argv[1:]]
from normexport_cli.start import main
main()
"""

BEFORE_TORCH = {
    "convert {pt2} --data none.npz": (ExitCode.USAGE, "none.npz: can't be read"),
    "convert {pt2} --data text.npz": (ExitCode.USAGE, "text.npz: "),
    "convert {pt2} --precision int8 --calibration-data none": (ExitCode.USAGE, "none: can't be read"),
    "convert {pt2} --precision int8": (ExitCode.USAGE, "needs samples to calibrate on"),
    "convert {pt2} --precision int8 --data x.npz --metric top1": (ExitCode.USAGE, "--metric top1: there are no labels"),
    "convert {pt2} --precision fp16 --labels-for y": (ExitCode.USAGE, "--labels-for y: there are no labels"),
    "convert {pt2} --dialect nonsense": (ExitCode.USAGE, "--dialect nonsense: is not a dialect"),
    "convert {pt2} --input 3xx8": (ExitCode.USAGE, "--input 3xx8: is not a shape"),
    "convert {pt2} --input x=3x8x8 --input x=3x8x8": (ExitCode.USAGE, "a name is given twice"),
    "convert {pt2} -o text.npz": (ExitCode.USAGE, "text.npz: can't be written"),
    "convert {pt2} --capsule text.npz/a.npz": (ExitCode.USAGE, "can't be written"),
    "convert {pt2} --runtime abacus": (ExitCode.USAGE, "--runtime abacus: is no runtime"),
    "convert {pt2} --engine --target sm12": (ExitCode.ENGINE, "target sm12: is not one"),
    "convert none.pt2": (ExitCode.USAGE, "none.pt2: there is no such file"),
    "convert text.npz": (ExitCode.CHECKPOINT, "text.npz: is not a file that PyTorch wrote"),
    "inspect {pt2} --input 3xx8": (ExitCode.USAGE, "--input 3xx8: is not a shape"),
    "export {pt2} -o text.npz/a.onnx": (ExitCode.USAGE, "can't be written"),
    "export none.pt -o a.onnx": (ExitCode.USAGE, "none.pt: there is no such file"),
    "parity {pt2} none.onnx": (ExitCode.USAGE, "none.onnx: can't be read"),
    "parity none.pt2 {onnx}": (ExitCode.USAGE, "none.pt2: there is no such file"),
    "parity {pt2} none.plan": (ExitCode.USAGE, "none.plan: does not exist"),
    "parity {pt2} {onnx} --data none.npz": (ExitCode.USAGE, "none.npz: can't be read"),
    "bisect {pt2} none.onnx": (ExitCode.USAGE, "none.onnx: can't be read"),
    "bisect {pt2} {onnx} -o text.npz": (ExitCode.USAGE, "can't be written"),
    "evaluate {pt2} --data none.npz": (ExitCode.USAGE, "none.npz: can't be read"),
    "evaluate {pt2} --data x.npz": (ExitCode.USAGE, "x.npz: holds no array labels"),
    "evaluate {pt2} --data x.npz --reference none.pt": (ExitCode.USAGE, "none.pt: there is no such file"),
    "evaluate {pt2} --data x.npz --runtime abacus": (ExitCode.USAGE, "--runtime abacus: is no runtime"),
    "bench {pt2} none.pt2": (ExitCode.USAGE, "none.pt2: there is no such file"),
    "bench {pt2} --data none.npz": (ExitCode.USAGE, "none.npz: can't be read"),
    "bench {pt2} --shapes nonsense": (ExitCode.USAGE, "--shapes"),
}  # fmt: skip


@pytest.mark.parametrize("words", BEFORE_TORCH)
def test_a_refusal_needs_no_torch(words: str, made: Path, converted: Path, tmp_path: Path) -> None:
    code, cause = BEFORE_TORCH[words]
    (tmp_path / "text.npz").write_text("no arrays")
    np.savez(tmp_path / "x.npz", x=np.zeros((4, 3, 8, 8), np.float32))
    files = {"{pt2}": str(made / "model.pt2"), "{onnx}": str(converted / "model.onnx")}
    given = [files.get(word, word) for word in words.split()]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *given], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert cause in done.stderr
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (code, 1, "")
    assert {file.name for file in tmp_path.iterdir()} == {"text.npz", "x.npz"}


def test_what_may_be_given_is_not_refused_early(made: Path, tmp_path: Path, run: Run) -> None:
    """A folder of weights, an index and data in a folder are no files of arrays."""
    (tmp_path / "weights").mkdir()
    state = torch.load(made / "weights.pth")
    torch.save(state, tmp_path / "weights" / "pytorch_model.bin")
    assert run("inspect", "weights").exit_code == ExitCode.GOOD


@pytest.fixture
def unproven(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proof that must not begin."""

    def begin(*args: object, **kwargs: object) -> None:
        raise AssertionError("the proof has begun")

    monkeypatch.setattr(proof, "check_model", begin)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8", "fp8"])
@pytest.mark.usefixtures("unproven")
def test_a_pattern_that_matches_nothing_is_refused_before_the_proof(precision: str, made: Path, run: Run) -> None:
    np.savez("x.npz", x=np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32))
    data = ["--calibration-data", "x.npz"] if precision in ("int8", "fp8") else []
    result = run("convert", made / "model.pt2", "--precision", precision, "--keep-fp32", "layer9.*", *data)
    assert result.exit_code == ExitCode.USAGE, result.output
    assert "--keep-fp32 layer9.*: matches no module" in result.stderr


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.usefixtures("unproven")
def test_labels_of_each_pixel_are_refused_before_the_proof(precision: str, made: Path, run: Run) -> None:
    inputs = np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32)
    np.savez("dense.npz", x=inputs, labels=np.zeros((16, 8, 8), np.int64))
    result = run("convert", made / "model.pt2", "--precision", precision, "--data", "dense.npz")
    assert result.exit_code == ExitCode.USAGE, result.output
    assert "labels: fit no output" in result.stderr


@pytest.mark.usefixtures("unproven")
def test_calibration_data_of_another_network_are_refused_before_the_proof(made: Path, run: Run) -> None:
    np.savez("other.npz", x=np.zeros((16, 1, 8, 8), np.float32))
    result = run("convert", made / "model.pt2", "--precision", "int8", "--calibration-data", "other.npz")
    assert result.exit_code == ExitCode.USAGE, result.output
    assert "other.npz" in result.stderr
