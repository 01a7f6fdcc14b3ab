"""Plans on a machine without a GPU: what inspect shows, and how run and parity refuse."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from normexport_cli.app import app
from typer.testing import CliRunner, Result

from normexport.engine import EngineConfig, ShapeRange, build_engine, manifest_path, read_manifest
from normexport.engine.manifest import manifest_text
from normexport.engine.plan_inputs import plan_inputs
from normexport.errors import EngineError, ExitCode, MissingComponent, UsageError
from normexport.proof import plan_candidate
from normexport.runtime import TensorRTRuntime
from tests.engine import networks

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'normexport[rtx]'")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plans")
    model = networks.convolutions(folder / "model.onnx")
    shapes = ShapeRange({"x": (2, 8, 16, 16)}, {"x": (4, 8, 16, 16)}, {"x": (16, 8, 16, 16)})
    build_engine(model, folder / "model.plan", EngineConfig(targets=("sm89",), shapes=shapes))
    np.savez(folder / "in.npz", x=np.zeros((4, 8, 16, 16), np.float32))
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may spoil."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def altered(folder: Path, **changes: Any) -> Path:
    plan = folder / "model.plan"
    manifest_path(plan).write_text(manifest_text(replace(read_manifest(plan), **changes)))
    return plan


def needs_no_gpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has an NVIDIA GPU: what is told where there is none can't be seen here")


def test_inspect_shows_profile_and_layers_and_opens_nothing(folder: Path) -> None:
    result = run("inspect", "model.plan")
    assert result.exit_code == ExitCode.GOOD, result.stderr
    assert "min 2x8x16x16, opt 4x8x16x16, max 16x8x16x16" in result.stdout
    assert "conv1  convolution  float32" in result.stdout


def test_inspect_json_is_the_manifest(folder: Path) -> None:
    result = run("inspect", "model.plan", "--json")
    assert json.loads(result.stdout) == json.loads((folder / "model.plan.json").read_text())


@pytest.mark.parametrize(
    "words", [("run", "model.plan", "--inputs", "in.npz", "-o", "out.npz"), ("parity", "model.onnx", "model.plan")]
)
def test_without_a_gpu_the_exit_code_is_that_of_a_missing_component(folder: Path, words: tuple[str, ...]) -> None:
    needs_no_gpu()
    result = run(*words)
    assert result.exit_code == ExitCode.MISSING
    assert "NVIDIA GPU" in result.stderr
    assert not (folder / "out.npz").exists()


def test_a_plan_that_was_changed_is_never_opened(folder: Path) -> None:
    (folder / "model.plan").write_bytes(b"something else")
    for words in (("inspect", "model.plan"), ("run", "model.plan", "--inputs", "in.npz", "-o", "out.npz")):
        result = run(*words)
        assert (result.exit_code, "not the plan that its manifest describes" in result.stderr) == (ExitCode.USAGE, True)


def test_a_plan_without_manifest_is_refused(folder: Path) -> None:
    (folder / "model.plan.json").unlink()
    result = run("inspect", "model.plan")
    assert (result.exit_code, "has no manifest" in result.stderr) == (ExitCode.USAGE, True)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1}', '{"format": 1, "plan": 3}'])
def test_a_spoilt_manifest_is_one_clear_line(folder: Path, text: str) -> None:
    (folder / "model.plan.json").write_text(text)
    result = run("inspect", "model.plan")
    assert (result.exit_code, "is not a manifest" in result.stderr) == (ExitCode.USAGE, True)


def test_code_inside_a_plan_is_run_only_on_trust(folder: Path) -> None:
    plan = altered(folder, host_code=True)
    with pytest.raises(UsageError, match="--trust"):
        TensorRTRuntime(plan)
    needs_no_gpu()
    with pytest.raises(MissingComponent, match="GPU"):
        TensorRTRuntime(plan, trust=True)


def test_a_plan_of_another_version_is_refused(folder: Path) -> None:
    with pytest.raises(EngineError, match=r"built with version 1\.2\.0"):
        TensorRTRuntime(altered(folder, flavor_version="1.2.0.1"))


def test_a_plan_of_a_flavour_that_is_not_here_is_a_missing_component(folder: Path) -> None:
    with pytest.raises(MissingComponent, match="tensorrt: is not installed"):
        TensorRTRuntime(altered(folder, flavor="tensorrt"))


def test_the_plugin_library_must_be_the_one_the_plan_was_built_with(folder: Path) -> None:
    library = folder / "other.so"
    library.write_bytes(b"another library")
    plugin = replace(read_manifest(folder / "model.plan").plan, file="libnormexport_tensorrt.so")
    plan = altered(folder, plugin=plugin)
    with pytest.raises(UsageError, match=r"other\.so: is not the plugin library"):
        TensorRTRuntime(plan, plugin_library=library)
    with pytest.raises(MissingComponent, match=r"none\.so"):
        TensorRTRuntime(plan, plugin_library=folder / "none.so")


def test_batch_sizes_of_a_judgement_are_those_the_profile_has(folder: Path) -> None:
    manifest = read_manifest(folder / "model.plan")
    assert plan_candidate.batch_sizes(manifest, plan_inputs(manifest))[0] == (2, 7, 16)
    (spec,) = plan_inputs(manifest)
    assert (spec.name, spec.shape, spec.dtype, spec.batched) == ("x", (8, 16, 16), "float32", True)


def test_a_plan_is_held_to_the_precision_that_most_layers_have(folder: Path) -> None:
    manifest = read_manifest(folder / "model.plan")
    assert plan_candidate.precision_of(manifest) == "float32"
    assert plan_candidate.precision_of(replace(manifest, precision={"float32": 1, "float16": 20})) == "float16"
    assert plan_candidate.precision_of(replace(manifest, precision={})) == "float32"
