"""`inspect --html`: what the file holds and what fold would make of it, as a page; another parser reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from normexport.errors import ExitCode
from tests.cli.conftest import Run, save_plain
from tests.reports.page.reading_html import Parsed

pytestmark = pytest.mark.slow


def text_of(page: Path) -> str:
    return Parsed(page.read_text("utf-8")).shown


def test_an_onnx_file_is_shown_with_its_norms_its_network_and_what_it_is(run: Run, tmp_path: Path) -> None:
    save_plain(tmp_path / "plain.onnx")
    result = run("inspect", "plain.onnx", "--html", "page.html")
    assert (result.exit_code, result.stderr) == (ExitCode.GOOD, "")
    shown = text_of(tmp_path / "page.html")
    assert shown.startswith("INSPECTED: plain.onnx")
    assert "1 of 1 norm would fold." in shown
    assert "would be" in shown
    assert "✓ folded" in shown
    assert "x Nx3x8x8 float32" in shown  # what it reads
    assert "Did it pass?" not in shown
    assert "PASSED" not in shown
    rows = json.loads(next(code for tag, attributes, code in Parsed((tmp_path / "page.html").read_text("utf-8")).code
                           if attributes.get("id") == "network-rows"))  # fmt: skip
    assert {"Conv", "BatchNormalization", "Relu"} <= {row[2] for row in rows}
    assert [row[5] for row in rows if row[2].startswith("BatchNormalization")] == ["folded"]


def test_the_page_of_its_json_is_the_same(run: Run, tmp_path: Path) -> None:
    save_plain(tmp_path / "plain.onnx")
    (tmp_path / "plain.json").write_text(run("inspect", "plain.onnx", "--json").stdout)
    assert run("inspect", "plain.onnx", "--html", "live.html").exit_code == ExitCode.GOOD
    assert run("report", "plain.json", "--onnx", "plain.onnx").exit_code == ExitCode.GOOD
    live, again = (text_of(tmp_path / name) for name in ("live.html", "plain.html"))
    assert again[: again.index("Which versions?")] == live[: live.index("Which versions?")]


def test_norms_whose_fate_the_graph_alone_tells_are_not_called_kept(made: Path, run: Run, tmp_path: Path) -> None:
    assert run("inspect", made / "weights.pth", "--html", "page.html").exit_code == ExitCode.GOOD
    shown = text_of(tmp_path / "page.html")
    assert "what would fold the graph alone tells" in shown
    assert "not known" in shown
    assert "○ kept" not in shown


def test_a_page_of_a_plan_is_refused_before_anything_is_read(run: Run, tmp_path: Path) -> None:
    result = run("inspect", "x.plan", "--html", "page.html")
    assert result.exit_code == ExitCode.USAGE
    assert "--html: means nothing here: a plan has" in result.stderr


def test_the_page_takes_not_the_place_of_what_is_inspected(run: Run, tmp_path: Path) -> None:
    save_plain(tmp_path / "plain.onnx")
    before = (tmp_path / "plain.onnx").read_bytes()
    result = run("inspect", "plain.onnx", "--html", "plain.onnx")
    assert result.exit_code == ExitCode.USAGE
    assert "would become the page, and is an input" in result.stderr
    assert (tmp_path / "plain.onnx").read_bytes() == before
