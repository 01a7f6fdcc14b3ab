"""Data that is not as it should be, and runs that meet: one line and nothing half-written, and then it goes on."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from normexport_cli.app import app
from typer.testing import CliRunner, Result

from normexport import onnx_export
from normexport.errors import ExitCode
from normexport.folding import fold
from normexport.io.onnx_model import save_onnx
from normexport.precision.int8.state_files import read_state
from tests.precision import nets
from tests.proof.inputs import stored

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
IMAGES, CLASSES = stored.pictures(24), stored.classes(24)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    save_onnx(fold(onnx_export.export(nets.stressed(), (nets.SPEC,)).model).model, path)
    return path


def run(*words: object) -> Result:
    return CliRunner().invoke(app, list(map(str, words)))


def commands(model: Path, data: object, folder: Path) -> dict[str, list[object]]:
    """Every command that reads samples one by one, with what it would write."""
    int8 = ["--precision", "int8", "--effort", "none", "--min-snr", -1000, "-o", folder / "out"]
    return {
        "convert": ["convert", model, "--data", data, *int8],
        "calibration": ["convert", model, "--calibration-data", data, *int8],
        "evaluate": ["evaluate", model, "--data", data, "--reference", model],
        "parity": ["parity", model, model, "--data", data],
        "collect": ["calibrate", "collect", model, "--data", data, "-o", folder / "state.json"],
    }


def test_data_without_a_sample_is_one_line(model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "none.npz", input=np.zeros((0, *nets.SPEC.shape), np.float32))
    (tmp_path / "none.tar").write_bytes(stored.tar({}))
    before = sorted(tmp_path.iterdir())
    for data in ("empty", "none.npz", "none.tar", "*.nothing"):
        for name, words in commands(model, tmp_path / data, tmp_path).items():
            result = run(*words, "--samples", 5)
            assert result.exit_code == ExitCode.USAGE, (data, name, result.output)
            assert len(result.stderr.splitlines()) == 1, (data, name)
    assert sorted(tmp_path.iterdir()) == before


def test_labels_that_are_not_as_many_are_one_line(model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", input=stored.values(IMAGES), labels=np.array(CLASSES[:-1]))
    for name in ("convert", "evaluate"):
        for draw in ([], ["--samples", 9]):
            result = run(*commands(model, tmp_path / "a.npz", tmp_path)[name], *draw)
            assert result.exit_code == ExitCode.USAGE, (name, result.output)
            assert "labels: are 23, the samples 24; give one label per sample" in result.stderr
    assert not (tmp_path / "out").exists()


def poisoned(folder: Path, bad: int) -> Path:
    members: dict[str, bytes] = {}
    for number, image in enumerate(IMAGES):
        members |= {f"{number:02}.png": b"no picture" if number == bad else stored.png(image)}
    folder.mkdir()
    (folder / "a.tar").write_bytes(stored.tar(members))
    return folder / "a.tar"


def test_a_calibration_that_a_bad_sample_ended_is_gone_on_with(model: Path, tmp_path: Path) -> None:
    """It ends at the 20th sample, behind two batches that are written; then that sample may be left out."""
    data = poisoned(tmp_path / "data", 19)
    words = commands(model, data, tmp_path)["collect"]
    ended = run(*words)
    assert ended.exit_code == ExitCode.USAGE
    assert "19.png: is not an image" in ended.stderr
    assert 0 < len(read_state(tmp_path / "state.json").samples) < 19
    done = run(*words, "--resume", "--skip-bad", 1)
    assert done.exit_code == ExitCode.GOOD, done.output
    whole = run(*words[:-1], tmp_path / "whole.json", "--skip-bad", 1)
    assert whole.exit_code == ExitCode.GOOD, whole.output
    assert (tmp_path / "state.json").read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_a_state_of_other_samples_is_not_gone_on_with(model: Path, tmp_path: Path) -> None:
    """Another draw, another batch, a file that has grown: the state stays as it is."""
    data = stored.shards(tmp_path, IMAGES, CLASSES)
    words = commands(model, data, tmp_path)["collect"]
    assert run(*words, "--samples", 11).exit_code == ExitCode.GOOD
    content = (tmp_path / "state.json").read_bytes()
    for other in (["--samples", 12], ["--samples", 11, "--seed", 1], ["--samples", 11, "--batch", 4], []):
        result = run(*words, *other, "--resume")
        assert result.exit_code == ExitCode.USAGE, (other, result.output)
        assert len(result.stderr.splitlines()) == 1
        assert (tmp_path / "state.json").read_bytes() == content
    again = run(*words, "--samples", 11, "--resume")
    assert again.exit_code == ExitCode.GOOD, again.output
    assert (tmp_path / "state.json").read_bytes() == content


def test_two_runs_into_one_place_leave_what_one_of_them_made(model: Path, tmp_path: Path) -> None:
    """Whole files of one run, whichever was last; nothing of the other."""
    data = stored.shards(tmp_path, IMAGES, CLASSES)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tools"), *sys.path])
    for name in ("convert", "collect"):
        words = list(map(str, commands(model, data, tmp_path)[name]))
        start = [sys.executable, "-m", "normexport_cli", *words]
        environment = {**os.environ, "PYTHONPATH": path}
        running = [
            subprocess.Popen(start, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)
        ]
        told = [each.communicate(timeout=300)[1] for each in running]
        ends = {each.returncode for each in running}
        assert ends <= {ExitCode.GOOD, ExitCode.INCONCLUSIVE}, told
        assert told == [b"", b""]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    for written in report["provenance"]["outputs"]:
        content = (tmp_path / "out" / written["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == written["sha256"], written["file"]
    ir.load(tmp_path / "out" / "model.onnx")
    files = {"model.onnx", "model.layers.json", "report.json", "report.html"}
    assert {each.name for each in (tmp_path / "out").iterdir()} == files
    assert run(*commands(model, data, tmp_path)["collect"][:-1], tmp_path / "one.json").exit_code == ExitCode.GOOD
    assert (tmp_path / "state.json").read_bytes() == (tmp_path / "one.json").read_bytes()
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(".") or "tmp" in each.name]
