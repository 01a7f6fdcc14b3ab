"""PASSED, FAILED and INCONCLUSIVE of `convert --precision`, `evaluate` and `parity`: last line, exit code, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import Result

from normexport.errors import ExitCode
from tests.cli import small_nets
from tests.cli.conftest import Run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An .npz of 64 inputs of all brightnesses, with the labels that the model gives them, and one without labels."""
    folder = tmp_path_factory.mktemp("samples")
    rng = np.random.default_rng(0)
    x = (rng.normal(1, 2, (64, 3, 8, 8)) * rng.uniform(0.2, 2, (64, 3, 1, 1))).astype(np.float32)
    with torch.no_grad():
        labels = small_nets.trained()(torch.from_numpy(x)).argmax(1).numpy()
    np.savez(folder / "labelled.npz", x=x, labels=labels)
    np.savez(folder / "plain.npz", x=x)
    np.savez(folder / "few.npz", x=x[:4])
    return folder


@pytest.fixture
def int8(made: Path, samples: Path, run: Run) -> Path:
    """A folder with an int8 conversion."""
    how = ("--precision", "int8", "--calibration-data", samples / "plain.npz", "--min-snr", 10)
    result = run("convert", made / "model.pt2", *how, "-o", "int8")
    assert result.exit_code == ExitCode.GOOD, result.output
    assert "judged on 16 of 64 samples, kept from calibration" in " ".join(result.stdout.split())
    return Path("int8")


def last(result: Result) -> str:
    return result.stdout.strip().splitlines()[-1]


def test_four_calibration_samples_are_inconclusive_and_say_what_to_give(made: Path, samples: Path, run: Run) -> None:
    result = run("convert", made / "model.pt2", "--precision", "int8", "--calibration-data", samples / "few.npz")
    assert result.exit_code == ExitCode.INCONCLUSIVE, result.output
    assert last(result).startswith("PRECISION INCONCLUSIVE  judged on the 4 samples that calibrated")
    assert "--data" in last(result)
    report = json.loads(Path("model/report.json").read_text())
    assert (report["verdict"], report["precision"]["verdict"], report["passed"]) == ("inconclusive",) * 2 + (False,)
    assert report["precision"]["reasons"]


def test_evaluate_has_a_verdict_against_a_reference(int8: Path, converted: Path, samples: Path, run: Run) -> None:
    how = ("evaluate", int8 / "model.onnx", "--data", samples / "plain.npz", "--reference", converted / "model.onnx")
    good, bad = run(*how, "--min-snr", 10), run(*how, "--min-snr", 90)
    assert (good.exit_code, bad.exit_code) == (ExitCode.GOOD, ExitCode.FAILED), good.output
    assert last(good).startswith("EVALUATION PASSED")
    assert last(bad).startswith("EVALUATION FAILED")
    assert "90 dB needed" in last(bad)
    found = json.loads(run(*how, "--min-snr", 90, "--json").stdout)
    assert (found["verdict"], found["passed"]) == ("failed", False)
    assert found["reasons"]
    assert found["outputs"][0]["snr_db"] == pytest.approx(found["snr_db"], abs=15)


def test_evaluate_without_a_reference_measures(converted: Path, samples: Path, run: Run) -> None:
    how = ("evaluate", converted / "model.onnx", "--data", samples / "labelled.npz")
    result = run(*how)
    assert result.exit_code == ExitCode.GOOD
    assert last(result).startswith("MEASURED  100.00%")
    assert "verdict" not in json.loads(run(*how, "--json").stdout)


def test_labels_for_an_output_that_is_not_there_is_one_line(converted: Path, samples: Path, run: Run) -> None:
    for option in ("--labels-for", "--output"):
        result = run("evaluate", converted / "model.onnx", "--data", samples / "labelled.npz", option, "other")
        assert result.exit_code == ExitCode.USAGE
        (line,) = result.stderr.splitlines()
        assert "--labels-for other: is not an output; the outputs are" in line


@pytest.mark.parametrize("words", [("--data", "plain.npz"), ()])
def test_labels_for_without_labels_is_one_line_and_writes_nothing(
    words: tuple[str, ...], made: Path, samples: Path, run: Run, tmp_path: Path
) -> None:
    given = [samples / word if word.endswith("npz") else word for word in words]
    how = ("--precision", "fp16", "--labels-for", "y", "-o", tmp_path / "out")
    result = run("convert", made / "model.pt2", *given, *how)
    assert result.exit_code == ExitCode.USAGE
    (line,) = result.stderr.splitlines()
    assert "there are no labels" in line
    assert not (tmp_path / "out").exists()
    assert "means nothing with --precision fp32" in run("convert", made / "model.pt2", "--labels-for", "y").stderr


def test_parity_judges_an_int8_file_by_snr(int8: Path, converted: Path, made: Path, samples: Path, run: Run) -> None:
    for reference in (converted / "model.onnx", made / "model.pt2"):
        how = ("parity", reference, int8 / "model.onnx", "--data", samples / "plain.npz")
        good, bad = run(*how, "--min-snr", 10, "--layers"), run(*how, "--min-snr", 90)
        assert (good.exit_code, bad.exit_code) == (ExitCode.GOOD, ExitCode.FAILED), good.output
        assert last(good).startswith("PARITY PASSED")
        assert "module boundaries" in good.stdout
        assert last(bad).startswith("PARITY FAILED")
        assert json.loads(run(*how, "--min-snr", 90, "--json").stdout)["verdict"] == "failed"


def test_parity_passes_the_half_file_that_conversion_passed(made: Path, converted: Path, run: Run) -> None:
    for precision in ("fp16", "bf16"):
        assert run("convert", made / "model.pt2", "--precision", precision, "-o", precision).exit_code == ExitCode.GOOD
        for reference in (converted / "model.onnx", made / "model.pt2"):
            result = run("parity", reference, f"{precision}/model.onnx", "--layers")
            assert result.exit_code == ExitCode.GOOD, result.output
            assert last(result) == "PARITY PASSED"
