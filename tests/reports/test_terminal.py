"""What a person reads: nothing cut off, refusals singly, the verdict last, at any width and without colour."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from normexport.checkpoint.records import NormRecord
from normexport.folding import NormOutcome
from normexport.proof.inputs.folders import FolderRead
from normexport.reports.data_lines import show_data
from normexport.reports.parity_table import show_parity
from normexport.reports.terminal import show_conversion, show_folding, show_inspection
from tests.reports import samples
from tests.reports.samples import DEEP


def shown(show: Callable[..., Any], *values: Any, width: int = 80, **options: bool) -> str:
    """What `show` prints without colour."""
    stream = io.StringIO()
    show(Console(file=stream, width=width, highlight=False), *values, **options)
    return stream.getvalue()


def squeezed(text: str) -> str:
    """Without line breaks and blanks: what was printed, however it was wrapped."""
    return "".join(text.split())


@pytest.mark.parametrize("width", [80, 100, 120])
def test_tables_stay_within_the_terminal(width: int) -> None:
    text = shown(show_conversion, samples.conversion(30), width=width)
    assert max(map(len, text.splitlines())) <= width


def test_no_line_ends_in_blanks() -> None:
    assert all(line == line.rstrip() for line in shown(show_conversion, samples.conversion(30)).splitlines())


def test_a_module_path_longer_than_its_column_is_broken_behind_dots_and_whole() -> None:
    text = shown(show_conversion, samples.conversion(3, norms=(), warnings=(), parity=samples.parity(worst=0.1)))
    column = [
        line[:26].strip() for line in text.splitlines() if line.startswith(("backbone", "3.blocks", "norm_after"))
    ]
    assert "".join(column) == DEEP
    assert all(part.endswith(".") for part in column[:-1])


def test_up_to_24_norms_are_listed_singly() -> None:
    text = shown(show_conversion, samples.conversion(23))
    assert sum(line.startswith("layer") for line in text.splitlines()) == 23


def test_more_norms_share_a_row_and_the_refusal_keeps_its_own() -> None:
    text = shown(show_conversion, samples.conversion(53), width=120)
    rows = [line for line in text.splitlines() if "scaled into Conv" in line]
    assert len(rows) == 1
    assert rows[0].startswith("53 norms")
    assert "pads its input with zeros" in text
    assert "stem.conv2" in text


def test_groups_keep_kinds_apart() -> None:
    wide = [
        NormOutcome(f"n{i}", f"p{i}", "range", "folded", "consumer", (), "folded forward into Conv 'c'")
        for i in range(9)
    ]
    outcomes = (*(samples.folded(f"layer{i}.bn") for i in range(20)), *wide)
    text = shown(show_folding, folding(outcomes=outcomes), Path("in.onnx"))
    rows = [line.split() for line in text.splitlines() if " norms " in line and "folded" in line]
    assert [(row[0], row[2]) for row in rows] == [("20", "l1"), ("9", "range")]


def test_the_verdict_is_the_last_line() -> None:
    assert shown(show_conversion, samples.conversion(3)).splitlines()[-1] == "PARITY PASSED"


def test_a_failed_verdict_names_the_first_divergence_on_the_same_line() -> None:
    last = shown(show_parity, samples.parity(worst=3.2)).splitlines()[-1]
    assert last.startswith("PARITY FAILED")
    assert DEEP in last


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_terminal_breaks_the_verdict_between_words_and_a_pipe_not_at_all(width: int) -> None:
    report = samples.parity(output=2.0)
    words = shown(show_parity, report, width=width).splitlines()[-1]
    stream = io.StringIO()
    show_parity(Console(file=stream, width=width, highlight=False, force_terminal=True, color_system=None), report)
    whole = stream.getvalue()
    lines = whole[whole.index("PARITY FAILED") :].splitlines()
    assert max(map(len, lines)) <= width
    assert [word for line in lines for word in line.split()] == words.split()


def test_an_output_that_is_called_output_is_named_once() -> None:
    (row,) = [replace(row, tensor="output") for row in samples.parity(output=2.0).outputs[1:]]
    assert row.judgement.reasons[0].startswith("output: is out of its budget")
    assert replace(row, tensor="logits").judgement.reasons[0].startswith("output logits: is out of its budget")
    assert replace(row, tensor="output_1").judgement.reasons[0].startswith("output_1: is out of its budget")


def test_a_failure_without_a_diverging_boundary_says_so() -> None:
    last = shown(show_parity, samples.parity(output=2.0)).splitlines()[-1]
    assert last.startswith("PARITY FAILED")
    assert "an output is not" in last


def test_a_fault_is_shown_instead_of_numbers() -> None:
    text = shown(show_parity, samples.parity(fault="shape (1, 3), expected (1, 4)"))
    assert "shape(1,3),expected(1,4)" in squeezed(text)


def test_layers_lists_every_boundary() -> None:
    without, listed = shown(show_parity, samples.parity()), shown(show_parity, samples.parity(), every_layer=True)
    assert "stem.conv1" not in without
    assert "stem.conv1" in listed
    assert "2 module boundaries compared, none out of budget" in listed


def test_operators_show_only_what_changed() -> None:
    line = next(
        line for line in shown(show_conversion, samples.conversion(3)).splitlines() if line.startswith("operators")
    )
    assert "107 → 55" in line
    assert "RunningNorm 54 → 0" in line
    assert "Conv" not in line


def test_warnings_and_findings_name_path_and_channel() -> None:
    text = squeezed(shown(show_conversion, samples.conversion(3)))
    assert f"{DEEP}:channel3:running_scaleiszero" in text
    assert f"{DEEP}:channels3ignoretheirinput" in text


def test_one_finding_of_many_norms_is_said_once() -> None:
    ill = inspection(norms=tuple(samples.record(f"bn{i}", health=("never updated",)) for i in range(9)), outcomes=None)
    lines = [line for line in shown(show_inspection, ill).splitlines() if "never updated" in line]
    assert lines == ["  bn0, bn1, bn2, bn3 and 5 more: never updated"]


def test_norms_without_running_statistics_are_not_called_healthy() -> None:
    live = NormRecord("bn", "l1", "normexport", 4, "instance")
    assert "healthy" not in shown(show_inspection, inspection(norms=(live,), outcomes=None))


def test_names_out_of_a_file_cannot_steer_the_terminal() -> None:
    evil = NormOutcome("n", "\x1b[2J\x07bn", "l1", "folded", "producer", (), "scaled into Conv '\x1b]0;x\x07'")
    text = shown(show_folding, folding(outcomes=(evil,)), Path("in\x1b[31m.onnx"))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\\x1b[2J" in text


@pytest.mark.parametrize("outcomes", [None, ()])
def test_a_norm_of_unknown_kind_goes_by_its_class_which_cannot_steer_the_terminal(outcomes: Any) -> None:
    own = NormRecord("bn", "unknown", "own-divisor", 4, "running", class_name="Own\x1b[2JNorm")
    text = shown(show_inspection, inspection(norms=(own,), outcomes=outcomes))
    assert "1 norm (class Own\\x1b[2JNorm; stored as own-divisor)" in text
    assert "\x1b" not in text


def test_square_brackets_in_names_are_text_not_markup() -> None:
    text = shown(show_folding, folding(outcomes=(samples.folded("blocks[bold]0.bn"),)), Path("in.onnx"))
    assert "blocks[bold]0.bn" in text


def test_unchanged_file_is_called_so() -> None:
    text = shown(show_folding, folding(outcomes=(), changed=False), Path("in.onnx"))
    assert "no norms" in text
    assert text.splitlines()[-1].startswith("UNCHANGED")


def test_fold_summary_counts_fates() -> None:
    outcomes = (samples.folded("a.bn"), samples.folded("b.bn"), samples.refused("c.bn"))
    last = shown(show_folding, folding(outcomes=outcomes), Path("in.onnx")).splitlines()[-1]
    assert last == "FOLDED  2 of 3, 1 lowered"


def test_norms_that_only_the_graph_shows_are_counted_in_the_headline() -> None:
    found = tuple(samples.folded(f"chain{i}") for i in range(12))
    text = shown(show_inspection, inspection(source="program", norms=(), outcomes=found))
    assert "12 norms found in the graph" in text
    assert "no norms" not in text


def test_inspection_without_a_graph_says_what_to_give() -> None:
    text = shown(show_inspection, inspection(outcomes=None, outcomes_note="give --input to see what would fold"))
    assert text.splitlines()[-1] == "  give --input to see what would fold"


def test_inspection_calls_healthy_statistics_healthy() -> None:
    healthy = inspection(norms=(samples.record("bn"),), outcomes=None)
    assert "healthy in every norm" in shown(show_inspection, healthy)
    ill = inspection(norms=(samples.record("bn", health=("channel 3: running_scale is zero",)),), outcomes=None)
    assert "healthy" not in shown(show_inspection, ill)
    assert "bn: channel 3: running_scale is zero" in shown(show_inspection, ill)


def folding(**changes: Any) -> SimpleNamespace:
    operators = SimpleNamespace(before={"Conv": 2, "Mul": 2}, after={"Conv": 2})
    return SimpleNamespace(
        **{"output": None, "files": (), "warnings": (), "changed": True, "operators": operators, **changes}
    )


def inspection(**changes: Any) -> SimpleNamespace:
    own = {"path": Path("model.pt2"), "source": "state_dict", "norms": (), "weight_norms": (), "notes": ()}
    return SimpleNamespace(**{**own, "outcomes": (), "warnings": (), "outcomes_note": "", "file": None, **changes})


def test_names_of_class_folders_are_escaped_and_many_are_shortened() -> None:
    read = FolderRead(
        "photos\n", 9, {"words": "RGB"}, ("\x1b[31mred", *(f"class{number}" for number in range(8))), "a note"
    )
    text = shown(show_data, read, width=200)
    assert "\x1b" not in text
    assert "[31mred, 1 class0, 2 class1, 3 class2, 4 class3, 5 class4 and 3 more" in text
    assert "9 images, RGB, 9 classes by folder" in text
    assert "note: a note" in text
    assert len(text.splitlines()) == 3
    assert shown(show_data, None) == ""
