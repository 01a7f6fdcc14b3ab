"""A page shows a result: whatever goes wrong in making it takes nothing from the result, and is told in one line."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import onnx
import pytest
from typer.testing import Result

import normexport
from normexport.errors import ExitCode, UsageError
from tests.cli.conftest import Run

pytestmark = pytest.mark.slow

#: Where a page can go wrong, and what the line says of it.
PLACES = {
    "normexport.verbs.report.page_of": "the result as a whole",
    "normexport.reports.page.read_document": "its JSON",
    "normexport.reports.page.read_network": "the graph",
    "normexport.reports.page.render": "the template",
    "normexport.reports.page.plots._svg": "a figure",
}

FAULTS: dict[str, tuple[BaseException, str]] = {
    "bug": (KeyError("layer1"), "KeyError: 'layer1'"),
    "deep": (RecursionError("maximum recursion depth exceeded"), "RecursionError: maximum recursion"),
    "memory": (MemoryError(), "MemoryError"),
    "refused": (UsageError("a place", "is wrong", "mend it"), "a place: is wrong"),
}


def raising(error: BaseException) -> Callable[..., NoReturn]:
    def fail(*args: object, **kwargs: object) -> NoReturn:
        raise error

    return fail


def convert(run: Run, made: Path) -> Result:
    return run("convert", made / "model.pt2", "-o", "out")


def require_whole(result: Result, told: str) -> dict[str, Any]:
    """All of a conversion but its page is there; returns the report."""
    assert result.exit_code == ExitCode.GOOD
    assert "PARITY PASSED" in result.stdout.splitlines()[-1]
    lines = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert len(lines) == 1
    assert lines[0].startswith("warning: out/report.html: could not be made (")
    assert told in lines[0]
    assert lines[0].endswith("all else is written; run: normexport report out")
    assert {path.name for path in Path("out").iterdir()} == {"model.onnx", "model.layers.json", "report.json"}
    onnx.checker.check_model(onnx.load("out/model.onnx"))
    report: dict[str, Any] = json.loads(Path("out/report.json").read_text())
    assert told in report["no_page"]
    assert [Path(file).name for file in report["files"]] == ["model.onnx", "model.layers.json", "report.json"]
    return report


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("place", PLACES)
def test_a_conversion_survives_whatever_its_page_meets(
    made: Path, run: Run, monkeypatch: pytest.MonkeyPatch, place: str, fault: str
) -> None:
    if fault != "bug" and place != "normexport.verbs.report.page_of":
        pytest.skip("one kind of fault is tried in every place, every kind in one")
    if place.endswith("_svg"):
        pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'normexport[report]'")
    error, told = FAULTS[fault]
    monkeypatch.setattr(place, raising(error))
    require_whole(convert(run, made), told)
    monkeypatch.undo()


def test_a_page_that_can_not_be_written_is_no_reason_either(
    made: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from normexport.io import atomic

    write = atomic.write_text

    def full(path: Path, text: str) -> None:
        if path.name == "report.html":
            raise UsageError(str(path), f"can't be written ({errno.errorcode[errno.ENOSPC]})", "free some space")
        write(path, text)

    monkeypatch.setattr("normexport.verbs.report.write_text", full)
    require_whole(convert(run, made), "can't be written (ENOSPC)")


def test_the_page_of_another_conversion_does_not_stay_beside_this_one(
    made: Path, converted: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(converted, tmp_path / "out")
    monkeypatch.setattr("normexport.verbs.report.page_of", raising(KeyError("layer1")))
    require_whole(convert(run, made), "KeyError")


def test_the_line_names_a_command_that_makes_the_page(made: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr("normexport.verbs.report.page_of", raising(KeyError("layer1")))
        convert(run, made)
    again = run("report", "out")
    assert again.exit_code == ExitCode.GOOD, again.stderr
    assert Path("out/report.html").read_text("utf-8").startswith("<!DOCTYPE html>")


def test_json_stays_one_document(made: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("normexport.verbs.report.page_of", raising(KeyError("layer1")))
    result = run("convert", made / "model.pt2", "-o", "out", "--json")
    assert result.exit_code == ExitCode.GOOD
    assert json.loads(result.stdout)["no_page"] == "KeyError: 'layer1'"
    assert result.stderr.startswith("warning: out/report.html: ")


def test_whoever_ends_the_process_meanwhile_ends_all_of_it(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C is no fault of the page: nothing is written, as at any other stage."""
    monkeypatch.setattr("normexport.verbs.report.page_of", raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        normexport.convert(made / "model.pt2", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [(), ("--json",)], ids=["text", "json"])
def test_what_parity_found_is_told_before_what_its_page_met(
    converted: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr("normexport.verbs.report.page_of", raising(KeyError("layer1")))
    model = converted / "model.onnx"
    result = run("parity", model, model, "--html", "page.html", *words)
    assert result.exit_code == ExitCode.BUG
    assert json.loads(result.stdout)["passed"] if words else "PARITY PASSED" in result.stdout
    assert result.stderr.splitlines()[-1].startswith("error: normexport: KeyError: 'layer1'; this is a bug")
    assert not (tmp_path / "page.html").exists()


def test_a_failing_verdict_keeps_its_exit_code_whatever_the_page_meets(
    converted: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = onnx.load(converted / "model.onnx")
    for weight in other.graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT:
            weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 1.5, weight.name))
    onnx.save(other, tmp_path / "other.onnx")
    monkeypatch.setattr("normexport.verbs.report.page_of", raising(KeyError("layer1")))
    result = run("parity", converted / "model.onnx", "other.onnx", "--html", "page.html")
    assert result.exit_code == ExitCode.FAILED
    assert "PARITY FAILED" in result.stdout
    assert "error: normexport: KeyError" in result.stderr


def test_what_bench_measured_is_told_before_what_its_page_met(
    converted: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("normexport.verbs.report.page_of", raising(KeyError("layer1")))
    short = ("--duration", "0.01", "--warmUp", "1", "--openings", "1", "--html", "page.html")
    result = run("bench", converted / "model.onnx", *short)
    assert result.exit_code == ExitCode.BUG
    assert "latency of a call" in result.stdout


SHORT = ("--duration", "0.01", "--warmUp", "1", "--openings", "2")

#: Where what lies beside a measurement can go wrong.
BESIDE = {
    "normexport.reports.bench_plot.write_plot": ("--plot", "p.svg"),
    "normexport.verbs.report.page_of": ("--html", "page.html"),
    "normexport.io.atomic.write_text": ("--exportTimes", "t.json"),
}


@pytest.mark.parametrize("words", [(), ("--json",)], ids=["text", "json"])
@pytest.mark.parametrize("place", BESIDE)
def test_what_was_measured_is_told_whatever_can_not_be_written_beside_it(
    converted: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, words: tuple[str, ...]
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'normexport[plot]'")
    model, asked = converted / "model.onnx", [word for pair in BESIDE.values() for word in pair]
    with monkeypatch.context() as broken:
        broken.setattr(place, raising(OSError(errno.ENOSPC, "No space left on device")))
        result = run("bench", model, model, *SHORT, *asked, *words)
    assert result.exit_code == ExitCode.USAGE
    assert len(json.loads(result.stdout)["timings"]) == 2 if words else "p99" in result.stdout
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "No space left on device" in lines[0]
    written = {name for option, name in BESIDE.values() if option != BESIDE[place][0]}
    if place.endswith("write_text"):  # the page is written by it too
        written = {"p.svg", "page.html"}
    assert {file.name for file in tmp_path.iterdir()} == written


def test_files_are_written_where_the_disk_behind_stdout_is_full(
    converted: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = raising(OSError(errno.ENOSPC, "No space left on device"))
    monkeypatch.setattr("normexport_cli.pages.print_json", full)
    result = run("bench", converted / "model.onnx", *SHORT, "--exportTimes", "t.json", "--json")
    assert result.exit_code == ExitCode.USAGE
    assert "No space left on device" in result.stderr
    assert json.loads((tmp_path / "t.json").read_text())["timings"][0]["latencies"]


def test_what_bisect_found_is_told_where_its_files_can_not_be_written(
    converted: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = onnx.load(converted / "model.onnx")
    weight = next(each for each in other.graph.initializer if len(each.dims) == 4)
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 1.5, weight.name))
    onnx.save(other, tmp_path / "other.onnx")
    monkeypatch.setattr("normexport.verbs.bisect.write", raising(UsageError("fault", "is full", "free some space")))
    result = run("bisect", converted / "model.onnx", "other.onnx", "-o", "fault")
    assert result.exit_code == ExitCode.FAILED, result.output
    assert "out of budget" in result.stdout
    assert result.stderr.splitlines()[-1].startswith("warning: fault: has not got the files (fault: is full")
    assert not list((tmp_path / "fault").glob("*"))


def test_a_plot_has_the_names_of_odd_files_in_its_legend(tmp_path: Path) -> None:
    """matplotlib leaves out labels with an underscore in front, and takes what stands between dollars for formulas."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'normexport[plot]'")
    from normexport.reports.bench_plot import plain

    assert plain("_model.onnx") == " _model.onnx"
    assert plain("a$b_{$.onnx") == r"a\$b_{\$.onnx"
