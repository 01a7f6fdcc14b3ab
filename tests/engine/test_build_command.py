"""`normexport build`: what it prints, writes and returns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from normexport_cli.app import app
from typer.testing import CliRunner

from normexport.errors import ExitCode
from tests.engine import networks

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'normexport[rtx]'")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)
    networks.convolutions(tmp_path / "model.onnx")
    return lambda *words: CliRunner().invoke(app, ["build", "model.onnx", "-o", "model.plan", *words])


def test_the_last_line_is_the_verdict_and_both_files_are_there(run: Callable[..., Any], tmp_path: Path) -> None:
    result = run("--target", "sm89", "--target", "sm120")
    assert result.exit_code == ExitCode.GOOD, result.stderr
    assert result.stdout.strip().splitlines()[-1] == "ENGINE BUILT  no plugin needed"
    assert "for sm89, sm120" in result.stdout
    assert {file.name for file in tmp_path.iterdir()} == {"model.onnx", "model.plan", "model.plan.json"}


def test_json_is_the_manifest(run: Callable[..., Any], tmp_path: Path) -> None:
    result = run("--target", "sm89", "--json")
    assert json.loads(result.stdout) == json.loads((tmp_path / "model.plan.json").read_text())


def test_shapes_are_given_as_trtexec_takes_them(run: Callable[..., Any]) -> None:
    words = ("--minShapes", "x:1x8x16x16", "--optShapes", "x:2x8x16x16", "--maxShapes", "x:4x8x16x16")
    result = run("--target", "sm89", "--json", *words)
    (tensor,) = json.loads(result.stdout)["inputs"]
    assert (tensor["smallest"][0], tensor["expected"][0], tensor["largest"][0]) == (1, 2, 4)


def test_shapes_given_again_make_another_profile(run: Callable[..., Any]) -> None:
    first = ("--minShapes", "x:1x8x16x16", "--optShapes", "x:1x8x16x16", "--maxShapes", "x:1x8x16x16")
    second = ("--minShapes", "x:8x8x16x16", "--optShapes", "x:16x8x16x16", "--maxShapes", "x:32x8x16x16")
    result = run("--target", "sm89", *first, *second)
    assert result.exit_code == ExitCode.GOOD, result.stderr
    assert "only 1x8x16x16; or min 8x8x16x16, opt 16x8x16x16, max 32x8x16x16" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("words", "code", "place"),
    [
        (("--minShapes", "x:1x8x16x16", "--maxShapes", "x:1x8x16x16", "--maxShapes", "x:2x8x16x16"), 2, "maxShapes 2"),
        (("--optShapes", "x:1x8x16x16", "--optShapes", "x:1x8x16x16"), 5, "profile: 2 is the same as 1"),
        (("--target", "sm90"), 5, "target sm90"),
        (("--target", "sm89", "--require", "fp16"), 5, "precision"),
        (("--minShapes", "x:9x8x16x16", "--maxShapes", "x:1x8x16x16"), 5, "input x"),
        (("--minShapes", "x:what"), 2, "--minShapes"),
        (("--flavor", "tensorrt"), 6, "tensorrt"),
        (("--flavor", "other"), 2, "flavor"),
        (("--plugin-library", "none.so"), 6, "none.so"),
    ],
)
def test_each_failure_is_one_line_and_its_exit_code(
    run: Callable[..., Any], tmp_path: Path, words: tuple[str, ...], code: int, place: str
) -> None:
    result = run(*words)
    assert result.exit_code == code
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert place in line
    assert not list(tmp_path.glob("*.plan*"))
