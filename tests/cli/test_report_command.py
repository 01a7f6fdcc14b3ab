"""`normexport report` and `--html`: pages where they are asked for, refusals before any work, nothing half-written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from normexport.errors import ExitCode
from tests.cli.conftest import Run
from tests.reports.page.reading_html import Parsed

pytestmark = pytest.mark.slow


def text_of(page: Path) -> str:
    """What a reader sees."""
    return Parsed(page.read_text("utf-8")).shown


def test_convert_writes_a_page_with_every_norm_file_and_version(converted: Path) -> None:
    shown = text_of(converted / "report.html")
    report = json.loads((converted / "report.json").read_text())
    assert shown.startswith("PASSED: model.pt2")
    for norm in report["outcomes"]:
        assert norm["reason"] in shown
    assert "SHA-256" in shown
    assert "model.layers.json" in shown
    assert "torch" in shown


def test_a_report_is_drawn_again_from_its_folder(converted: Path, run: Run, tmp_path: Path) -> None:
    shutil.copytree(converted, tmp_path / "out")
    before = text_of(tmp_path / "out" / "report.html")
    (tmp_path / "out" / "report.html").unlink()
    result = run("report", "out")
    assert (result.exit_code, result.stderr) == (ExitCode.GOOD, "")
    assert result.stdout.startswith("wrote out/report.html  (")
    after = text_of(tmp_path / "out" / "report.html")
    assert after[: after.index("Which versions?")] == before[: before.index("Which versions?")]
    once = (tmp_path / "out" / "report.html").read_bytes()
    assert json.loads(run("report", "out", "--json").stdout) == {"file": "out/report.html"}
    assert (tmp_path / "out" / "report.html").read_bytes() == once


def test_parity_writes_its_page_and_keeps_its_exit_code(converted: Path, run: Run, tmp_path: Path) -> None:
    model = converted / "model.onnx"
    result = run("parity", model, model, "--html", "pages/parity.html", "--json")
    assert result.exit_code == ExitCode.GOOD
    shown = text_of(tmp_path / "pages" / "parity.html")
    assert "model.onnx against model.onnx" in shown
    (tmp_path / "parity.json").write_text(result.stdout)
    assert run("report", "parity.json").exit_code == ExitCode.GOOD
    assert "PASSED" in text_of(tmp_path / "parity.html")


def test_what_is_no_report_is_refused_in_a_line(converted: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "empty").mkdir()
    for words, told in (
        (("list.json",), "list.json: is not a report (it is a list, and an object is needed)"),
        (("empty",), "empty/report.json: can't be read"),
        (("gone.json",), "gone.json: can't be read"),
        ((converted, "-o", converted / "report.json"), "would become the page, and is the report"),
        ((converted, "-o", converted / "model.onnx"), "would become the page, and is the model"),
        ((converted, "-o", "empty"), "empty: is a folder"),
    ):
        result = run("report", *words)
        assert result.exit_code == ExitCode.USAGE
        assert told in result.stderr
        assert result.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "list.json"]


@pytest.mark.parametrize("command", ["parity", "evaluate", "bench"])
def test_a_page_never_takes_the_place_of_an_input(converted: Path, run: Run, tmp_path: Path, command: str) -> None:
    shutil.copy(converted / "model.onnx", tmp_path / "model.onnx")
    before = (tmp_path / "model.onnx").read_bytes()
    words = {
        "parity": ["model.onnx", "model.onnx"],
        "evaluate": ["model.onnx", "--data", "x.npz"],
        "bench": ["model.onnx"],
    }
    result = run(command, *words[command], "--html", "model.onnx")
    assert result.exit_code == ExitCode.USAGE
    assert "model.onnx: would become the page, and is a" in result.stderr
    assert (tmp_path / "model.onnx").read_bytes() == before


def test_names_in_a_report_open_no_files(converted: Path, run: Run, tmp_path: Path) -> None:
    shutil.copytree(converted, tmp_path / "out")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "out" / "link").symlink_to(tmp_path / "secret")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    report["files"] += ["../secret", str(tmp_path / "secret"), "link"]
    (tmp_path / "out" / "report.json").write_text(json.dumps(report))
    assert run("report", "out").exit_code == ExitCode.GOOD
    shown = text_of(tmp_path / "out" / "report.html")
    assert "secret" not in shown.replace(str(tmp_path), "")
    assert "link" not in [word for word in shown.split() if word == "link"]


def test_without_matplotlib_everything_is_written_and_the_page_says_how_to_get_figures(
    converted: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("normexport.reports.page.plots.can_plot", lambda: False)
    assert run("report", converted, "-o", "page.html").exit_code == ExitCode.GOOD
    assert "pip install 'normexport[report]'" in text_of(tmp_path / "page.html")
