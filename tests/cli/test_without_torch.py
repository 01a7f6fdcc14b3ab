"""Where PyTorch is not installed: ONNX files and plans are served, and whatever needs it says how to install it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from normexport.engine import RTX, is_installed
from normexport.errors import ExitCode
from tests.cli.conftest import environment, save_plain

pytestmark = pytest.mark.slow

#: What an environment without PyTorch lacks, and the exporter's library, which needs it.
BLOCKED = "import sys\nfor name in ('torch', 'onnxscript'): sys.modules[name] = None\n"
INSTALL = "run: pip install 'normexport[torch]'"


@pytest.fixture
def without_torch(tmp_path: Path) -> Callable[..., Any]:
    """The command line, or a few lines of Python, in a process in which torch can't be imported."""

    def without_torch(
        *words: str | Path, code: str = "from normexport_cli.start import main; main()"
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", BLOCKED + code, *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)

    return without_torch


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network as another exporter writes it, conv -> BatchNormalization -> relu, and inputs for it."""
    folder, dice = tmp_path_factory.mktemp("plain"), np.random.default_rng(0)
    save_plain(folder / "plain.onnx")
    np.savez(folder / "data.npz", x=dice.normal(size=(24, 3, 8, 8)).astype(np.float32))
    return folder


def test_fold_parity_inspect_and_evaluate_serve_onnx_files(
    plain: Path, without_torch: Callable[..., Any], tmp_path: Path
) -> None:
    folded = tmp_path / "folded.onnx"
    done = without_torch("fold", plain / "plain.onnx", "-o", folded)
    assert (done.returncode, done.stderr) == (ExitCode.GOOD, "")
    assert [node.op_type for node in onnx.load(folded).graph.node] == ["Conv", "Relu"]
    x = np.load(plain / "data.npz")["x"]
    before, after = (
        onnxruntime.InferenceSession(path).run(None, {"x": x})[0] for path in (plain / "plain.onnx", folded)
    )
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)

    done = without_torch("parity", plain / "plain.onnx", folded, "--layers")
    assert (done.returncode, done.stderr) == (ExitCode.GOOD, "")
    assert done.stdout.splitlines()[-1] == "PARITY PASSED"
    done = without_torch("inspect", plain / "plain.onnx", "--json")
    assert (done.returncode, done.stderr) == (ExitCode.GOOD, "")
    assert json.loads(done.stdout)["source"] == "onnx"
    how = ("--data", plain / "data.npz", "--reference", plain / "plain.onnx")
    done = without_torch("evaluate", folded, *how)
    assert (done.returncode, done.stderr) == (ExitCode.GOOD, "")
    assert done.stdout.splitlines()[-1].startswith("EVALUATION PASSED")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_convert_takes_an_onnx_file_to_every_precision(
    precision: str, plain: Path, without_torch: Callable[..., Any], tmp_path: Path
) -> None:
    data = ("--data", plain / "data.npz")
    done = without_torch("convert", plain / "plain.onnx", "-o", "out", "--precision", precision, *data)
    assert (done.returncode, done.stderr) == (ExitCode.GOOD, "")
    x = np.load(plain / "data.npz")["x"]
    before, after = (
        onnxruntime.InferenceSession(path).run(None, {"x": x})[0]
        for path in (plain / "plain.onnx", tmp_path / "out" / "model.onnx")
    )
    allowed = {"fp32": 1e-6, "fp16": 2**-10, "int8": 10 ** (-25 / 20)}[precision]
    assert np.sqrt(np.mean((after - before) ** 2)) <= allowed * np.sqrt(np.mean(before**2))
    types = {node.op_type for node in onnx.load(tmp_path / "out" / "model.onnx").graph.node}
    assert "BatchNormalization" not in types
    assert ("QuantizeLinear" in types) == (precision == "int8")


def test_a_wrong_file_fails_there_too(plain: Path, without_torch: Callable[..., Any], tmp_path: Path) -> None:
    model = onnx.load(plain / "plain.onnx")
    (bias,) = (each for each in model.graph.initializer if each.name == "bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(0.01), "bias"))
    onnx.save(model, tmp_path / "wrong.onnx")
    done = without_torch("parity", plain / "plain.onnx", "wrong.onnx")
    assert done.returncode == ExitCode.FAILED, done.stderr


def test_a_converted_file_with_a_live_norm_folds_and_is_inspected(
    converted: Path, without_torch: Callable[..., Any]
) -> None:
    done = without_torch("fold", converted / "model.onnx", "-o", "again.onnx")
    assert (done.returncode, done.stderr) == (ExitCode.GOOD, "")
    done = without_torch("inspect", converted / "model.onnx")
    assert (done.returncode, done.stderr) == (ExitCode.GOOD, "")


@pytest.mark.skipif(not is_installed(RTX), reason="TensorRT for RTX is not installed")
def test_a_plan_is_built_and_inspected_and_nothing_but_a_gpu_is_missing_to_run_it(
    plain: Path, without_torch: Callable[..., Any], tmp_path: Path
) -> None:
    done = without_torch("build", plain / "plain.onnx", "-o", "m.plan", "--target", "sm89")
    assert (done.returncode, done.stderr) == (ExitCode.GOOD, "")
    done = without_torch("inspect", "m.plan", "--json")
    assert (done.returncode, done.stderr) == (ExitCode.GOOD, "")
    assert json.loads(done.stdout)["targets"] == ["sm89"]
    done = without_torch("run", "m.plan", "--inputs", plain / "data.npz", "-o", "out.npz")
    assert done.returncode == ExitCode.MISSING
    assert len(done.stderr.splitlines()) == 1
    assert "an NVIDIA GPU: is needed to run a plan" in done.stderr
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("convert", "model.pt2", "-o", "out"),
        ("export", "weights.pth", "--model", "tests.cli.small_nets:Small", "-o", "out/m.onnx"),
        ("inspect", "module.pt"),
        ("parity", "model.pt2", "plain.onnx"),
        ("evaluate", "weights.pth", "--data", "data.npz", "--reference", "plain.onnx"),
    ],
    ids=lambda words: words[0],
)
def test_a_checkpoint_needs_torch_and_one_line_says_what_installs_it(
    words: tuple[str, ...], made: Path, plain: Path, without_torch: Callable[..., Any], tmp_path: Path
) -> None:
    for file in (*made.iterdir(), *plain.iterdir()):
        (tmp_path / file.name).symlink_to(file)
    before = set(tmp_path.iterdir())
    done = without_torch(*words)
    assert (done.returncode, done.stdout) == (ExitCode.MISSING, "")
    assert done.stderr == f"error: torch: is not installed; {INSTALL}\n"
    assert set(tmp_path.iterdir()) == before
    told = json.loads(without_torch(*words, "--json").stdout)
    assert told["error"]["exit_code"] == ExitCode.MISSING


def test_the_library_says_the_same_and_loads_what_needs_no_torch(without_torch: Callable[..., Any]) -> None:
    code = """
import normexport
from normexport.errors import MissingComponent
served = {"fold", "convert", "build", "inspect", "run", "parity", "check", "evaluate", "prove", "bench", "bisect"}
served |= {"Checkpoint", "ConvertConfig"}
refused = set()
for name in normexport.__all__:
    try: getattr(normexport, name)
    except MissingComponent as error: refused.add(name); said = str(error)
assert not served & refused, refused
print(sorted(refused)); print(said)
"""
    done = without_torch(code=code)
    assert done.returncode == 0, done.stderr
    refused, said = done.stdout.splitlines()
    assert set(ast.literal_eval(refused)) == {"Exported", "export", "load"}
    assert said == f"torch: is not installed; {INSTALL}"


def test_help_and_the_list_of_dialects_need_no_torch(without_torch: Callable[..., Any]) -> None:
    for words in (("convert", "--help"), ("dialects",)):
        done = without_torch(*words)
        assert (done.returncode, done.stderr) == (ExitCode.GOOD, "")
    assert "convnet-lp" in done.stdout
