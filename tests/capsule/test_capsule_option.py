"""`convert --capsule`: where it may be written, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from normexport_cli.app import app
from typer.testing import CliRunner, Result

from normexport import capsule
from normexport.errors import ExitCode
from tests.capsule.conftest import Sealed

pytestmark = pytest.mark.slow


def convert(sealed: Sealed, *words: float | str | Path) -> Result:
    return CliRunner().invoke(app, ["convert", str(sealed.folder / "model.pt2"), *map(str, words)])


def test_it_is_listed_among_the_files_and_may_lie_in_a_new_folder(sealed: Sealed, tmp_path: Path) -> None:
    path = tmp_path / "new" / "c.npz"
    result = convert(sealed, "-o", tmp_path / "out", "--capsule", path, "--capsule-size", 0.02, "--json")
    assert result.exit_code == ExitCode.GOOD, result.stderr
    told = json.loads(result.stdout)
    assert str(path) in told["files"]
    assert "capsule" in told["seconds"]
    assert "batches" not in told["parity"]
    assert any(boundary.at is not None for boundary in capsule.read(path).boundaries)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert str(path) in report["files"]


@pytest.mark.parametrize("name", ["model.onnx", "model.layers.json", "report.json", "model.onnx.data"])
def test_it_takes_the_place_of_no_other_output(sealed: Sealed, tmp_path: Path, name: str) -> None:
    result = convert(sealed, "-o", tmp_path / "out", "--capsule", tmp_path / "out" / name)
    assert result.exit_code == ExitCode.USAGE
    assert not (tmp_path / "out").exists()


def test_it_takes_the_place_of_no_input(sealed: Sealed, tmp_path: Path) -> None:
    before = (sealed.folder / "model.pt2").read_bytes()
    result = convert(sealed, "-o", tmp_path / "out", "--capsule", sealed.folder / "model.pt2")
    assert result.exit_code == ExitCode.USAGE
    assert (sealed.folder / "model.pt2").read_bytes() == before


@pytest.mark.parametrize("size", ["0", "-1", "nan", "inf"])
def test_a_size_that_is_none_is_refused_before_any_work(sealed: Sealed, tmp_path: Path, size: str) -> None:
    result = convert(sealed, "-o", tmp_path / "out", "--capsule", tmp_path / "c.npz", "--capsule-size", size)
    assert result.exit_code == ExitCode.USAGE
    assert "is not a size" in result.stderr
    assert not list(tmp_path.iterdir())


def test_where_the_capsule_can_not_be_made_nothing_is_written(sealed: Sealed, tmp_path: Path) -> None:
    result = convert(sealed, "-o", tmp_path / "out", "--capsule", tmp_path / "c.npz", "--capsule-size", 0.0001)
    assert result.exit_code == ExitCode.USAGE
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "c.npz").exists()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
