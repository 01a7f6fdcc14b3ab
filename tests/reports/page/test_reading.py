"""Reports of anybody: read field by field, and refused in a line that names the field."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from normexport.io.json_files import BadJson
from normexport.reports import page
from normexport.verdicts import Verdict
from tests.reports.page import documents

RESULTS = {
    "convert": documents.conversion(precision=documents.precision()),
    "parity": documents.parity(),
    "snr": documents.snr(),
    "evaluate": documents.evaluation(),
    "bench": documents.bench(),
    "inspect": documents.inspection(),
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*path, key)
        yield from places(item, (*path, key))


@pytest.mark.parametrize("kind", RESULTS)
@pytest.mark.parametrize("spoiled", [object, [], {}, "x", -1, 1e308, True, None], ids=str)
def test_a_spoiled_field_is_read_or_refused_and_nothing_else(kind: str, spoiled: Any) -> None:
    """Every field in turn becomes something else, or is taken away: the page is made, or BadJson says where."""
    for path in places(RESULTS[kind]):
        document = copy.deepcopy(RESULTS[kind])
        holder: Any = document
        for key in path[:-1]:
            holder = holder[key]
        if spoiled is object:
            del holder[path[-1]]
        else:
            holder[path[-1]] = spoiled
        try:
            read = page.read_document(document)
        except BadJson:
            continue
        assert page.render(read)


@pytest.fixture(autouse=True)
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("normexport.reports.page.plots.can_plot", lambda: False)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([], "it is a list, and an object is needed"),
        ({}, "it is no report of convert, parity, evaluate, bench or inspect"),
        ({**documents.parity(), "verdict": "fine"}, "verdict is none of passed, failed, inconclusive"),
        ({**documents.parity(), "outputs": [3]}, r"outputs\[0\] is 3, and an object is needed"),
        ({**documents.bench(), "timings": []}, "ratios compare cases that are not among timings"),
    ],
)
def test_what_is_no_report_is_refused_by_its_place(value: Any, told: str) -> None:
    with pytest.raises(BadJson, match=told):
        page.read_document(value)


def test_an_error_that_json_has_no_number_for_is_beyond_any_budget() -> None:
    spoiled = documents.parity(excess=None)
    spoiled["outputs"][1]["candidate"] = {"rms": None, "max_abs": None}
    read = page.read_document(spoiled)
    assert read.parity.rows[1].share is None
    assert read.parity.rows[1].error == float("inf")
    assert read.judgement.verdict is Verdict.FAILED
    assert "beyond any of its budget" in page.render(read)


def test_what_a_verb_returns_is_read_as_its_file_is() -> None:
    live = {**documents.conversion("a\udcffb"), "notes": ("one", float("inf") and "two")}
    live["parity"]["outputs"][0]["excess"] = float("nan")
    plain = page.json_of(live)
    assert page.read_document(plain) == page.read_document(json.loads(json.dumps(plain, allow_nan=False)))
    assert "\\udcff" in plain["path"]
