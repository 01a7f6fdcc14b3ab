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


@pytest.fixture
def unexported(monkeypatch: pytest.MonkeyPatch) -> None:
    """An export that must not begin: neither a trace nor a translation."""

    def begin(*args: object, **kwargs: object) -> None:
        raise AssertionError("the export has begun")

    for name in ("program_of", "onnx_of"):
        monkeypatch.setattr(f"normexport.onnx_export.exported.{name}", begin)


#: The network in each form that a checkpoint has.
FORMS = {
    "program": ("model.pt2",),
    "module": ("module.pt", "--trust", "--input", "x=3x8x8"),
    "state": ("weights.pth", "--model", "tests.cli.small_nets:Small", "--input", "x=3x8x8"),
}

#: What is asked for, and what it is refused with; files are those of `samples`.
BEFORE_THE_EXPORT = {
    "--precision fp16 --keep-fp32 layer9.*": "--keep-fp32 layer9.*: matches no module; modules are called conv, norm,",
    "--precision int8 --calibration-data x.npz --keep-fp32 layer9.*": "--keep-fp32 layer9.*: matches no module",
    "--precision fp8 --calibration-data x.npz --keep-fp32 conv --keep-fp32 *.bn": "--keep-fp32 *.bn: matches no module",
    "--precision fp16 --data dense.npz": "labels: fit no output: output (2, 4); iou needs class scores",
    "--precision int8 --data dense.npz": "labels: fit no output: output (2, 4)",
    "--precision int8 --data nine.npz": "label: of sample 0 is 9, the model has classes 0 to 3",
    "--precision int8 --data few.npz": "labels: are 5, the samples 16",
    "--precision int8 --data good.npz --metric top5": "--metric top5: is always right of 4 classes",
    "--precision fp16 --data good.npz --labels-for logits": "--labels-for logits: is not an output",
    "--precision int8 --calibration-data other.npz": "other.npz",
    "--data other.npz": "other.npz",
    "--output-names a,b": "--output-names a,b: names 2, and ",
    "--input-names a,b": "--input-names a,b: names 2, and ",
}  # fmt: skip


@pytest.fixture
def samples(tmp_path: Path) -> None:
    """Files of samples and labels of several kinds."""
    x = np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32)
    labels = {
        "good": np.arange(16) % 4,
        "nine": np.full(16, 9),
        "few": np.zeros(5, np.int64),
        "dense": np.zeros((16, 8, 8), np.int64),
    }
    np.savez(tmp_path / "x.npz", x=x)
    np.savez(tmp_path / "other.npz", x=x[:, :1])
    for name, each in labels.items():
        np.savez(tmp_path / f"{name}.npz", x=x, labels=each)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("words", BEFORE_THE_EXPORT)
@pytest.mark.usefixtures("unexported", "samples")
def test_what_the_checkpoint_itself_tells_is_refused_before_its_export(
    words: str, form: str, made: Path, run: Run, tmp_path: Path
) -> None:
    file, *how = FORMS[form]
    result = run("convert", made / file, *how, *words.split(), "-o", "out")
    assert result.exit_code == ExitCode.USAGE, result.output
    assert f"error: {BEFORE_THE_EXPORT[words]}" in result.stderr or BEFORE_THE_EXPORT[words] in result.stderr
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and file.suffix != ".npz"]


@pytest.mark.usefixtures("unexported", "samples")
def test_samples_to_calibrate_on_are_looked_at_before_the_export(made: Path, run: Run) -> None:
    result = run("calibrate", "collect", made / "model.pt2", "--data", "other.npz", "-o", "state.json")
    assert result.exit_code == ExitCode.USAGE, result.output
    assert "other.npz" in result.stderr


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8", "fp8"])
@pytest.mark.usefixtures("unproven", "samples")
def test_a_pattern_of_a_module_without_operators_is_refused_before_the_proof(
    precision: str, made: Path, run: Run
) -> None:
    """ "Add" may be the node of no module, which only the graph tells: this network has no Sub."""
    data = ["--calibration-data", "x.npz"] if precision in ("int8", "fp8") else []
    result = run("convert", made / "model.pt2", "--precision", precision, "--keep-fp32", "Sub", *data)
    assert result.exit_code == ExitCode.USAGE, result.output
    assert "--keep-fp32 Sub: matches no module" in result.stderr


@pytest.mark.usefixtures("unproven", "samples")
@pytest.mark.parametrize("words", ["--keep-fp32 layer9.*", "--data dense.npz"])
def test_an_onnx_file_is_refused_before_the_proof(words: str, converted: Path, run: Run) -> None:
    result = run("convert", converted / "model.onnx", "--precision", "fp16", *words.split())
    assert result.exit_code == ExitCode.USAGE, result.output
    assert "matches no module" in result.stderr or "labels: fit no output" in result.stderr
