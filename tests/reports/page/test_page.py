"""A page holds what the report says and nothing that runs: as another parser reads it, whatever names files hold."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest

from normexport.reports import page
from normexport.reports.page import answers, plots
from tests.reports.page import documents
from tests.reports.page.reading_html import Parsed

KINDS: dict[str, Callable[[str], dict[str, Any]]] = {
    "convert": documents.conversion,
    "int8": lambda word: documents.conversion(word, precision=documents.precision(word)),
    "parity": documents.parity,
    "snr": documents.snr,
    "evaluate": documents.evaluation,
    "bench": documents.bench,
    "inspect": documents.inspection,
}


def html_of(document: Any, names: list[str] | None = None, **more: Any) -> str:
    """The page of a result, with a network of nodes of these names."""
    read = page.read_document(page.json_of(document))
    network = None if names is None else page.read_network(documents.model(names), read.norms, page.known_of(read))
    return page.render(read, network, **more)


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes a second for each page, and is not what is asked here."""
    monkeypatch.setattr(plots, "can_plot", lambda: False)


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("word", documents.HOSTILE, ids=range(len(documents.HOSTILE)))
def test_a_name_becomes_text_and_never_an_element(kind: str, word: str) -> None:
    plain, hostile = (Parsed(html_of(KINDS[kind](name), [name] * 3)) for name in ("plain", word))
    skeleton = [(tag, sorted(attributes)) for tag, attributes in plain.elements]
    assert [(tag, sorted(attributes)) for tag, attributes in hostile.elements] == skeleton
    assert hostile.open_elements == []
    assert [tag for tag, _, _ in hostile.code] == [tag for tag, _, _ in plain.code]
    own = [code for tag, attributes, code in hostile.code if "type" not in attributes]
    assert own == [code for tag, attributes, code in plain.code if "type" not in attributes]


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize("word", documents.HOSTILE, ids=range(len(documents.HOSTILE)))
def test_what_is_shown_has_no_controls_and_no_changes_of_direction(word: str) -> None:
    html = html_of(documents.conversion(word), [word])
    assert not [char for char in html if not char.isprintable() and char != "\n"]
    assert len(html) < 200_000


@pytest.mark.usefixtures("without_figures")
def test_a_hostile_name_can_be_read_as_it_is() -> None:
    parsed = Parsed(html_of(documents.conversion("<b>&amp;</b>")))
    assert "layer1.<b>&amp;</b>.folded" in parsed.shown
    assert "{{ 7 * 7 }}{% raw %}" in Parsed(html_of(documents.conversion("{{ 7 * 7 }}{% raw %}"))).shown


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_one_file_that_asks_for_nothing(kind: str) -> None:
    parsed = Parsed(html_of(KINDS[kind]("name"), ["a", "b"]))
    loading = {"src", "href", "srcset", "action", "data", "poster", "background", "xlink:href", "formaction"}
    for tag, attributes in parsed.elements:
        for name in loading & set(attributes):
            value = attributes[name] or ""
            assert value.startswith(("#", "data:image/svg+xml;base64,")), (tag, name, value[:60])
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
    for tag, _, code in parsed.code:
        assert "@import" not in code, tag
        assert "url(" not in code, tag
        assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|eval|innerHTML|document\.write|Function)\b", code)


def test_only_what_was_written_here_may_run() -> None:
    parsed = Parsed(html_of(documents.conversion(), ["a"]))
    (policy,) = [attributes["content"] for _, attributes in parsed.elements if attributes.get("http-equiv") is not None]
    rules = dict(rule.strip().split(" ", 1) for rule in (policy or "").split(";"))
    assert (rules["default-src"], rules["base-uri"], rules["form-action"]) == ("'none'", "'none'", "'none'")
    assert rules["img-src"] == "data:"
    codes = [(tag, code) for tag, attributes, code in parsed.code if "type" not in attributes]
    assert [tag for tag, _ in codes] == ["style", "script", "script"]
    for kind in ("style", "script"):
        own = [hashlib.sha256(code.encode()).digest() for tag, code in codes if tag == kind]
        digests = {base64.b64encode(digest).decode() for digest in own}
        assert set(rules[f"{kind}-src"].split()) == {f"'sha256-{digest}'" for digest in digests}


def test_the_layout_is_the_librarys_own_under_its_licence() -> None:
    """dagre 3.1.3 as the registry has it, but for two control characters that stand as escapes here."""
    content = (files("normexport.reports.page") / "dagre.min.js").read_text("utf-8")
    notice, code = content.split("*/\n", 1)
    assert "Permission is hereby granted, free of charge" in notice
    published = code.replace("\\x01", "\x01")
    assert hashlib.sha256(published.encode()).hexdigest() == (
        "2a3aee60b1ee1f12f51354acfb9e6a94e5ec350eabba57e9c4427dab5a10386c"
    )


def test_a_page_without_a_network_carries_no_layout() -> None:
    assert "@dagrejs/dagre" not in html_of(documents.bench())


@pytest.mark.usefixtures("without_figures")
def test_every_anchor_leads_somewhere_and_every_identity_is_one() -> None:
    for kind, document in KINDS.items():
        parsed = Parsed(html_of(document("name"), ["a"]))
        identities = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
        assert len(identities) == len(set(identities)), kind
        wanted = {(attributes["href"] or "")[1:] for tag, attributes in parsed.elements if tag == "a"}
        assert wanted <= set(identities), kind


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize(
    ("document", "word", "told"),
    [
        (documents.conversion(), "PASSED", "computes what norm.pt2 computes"),
        (documents.conversion(excess=3.1), "FAILED", "first out of its budget: layer1.norm (Conv2d), 3.10x"),
        (documents.conversion(excess=None), "FAILED", "layer1.norm (Conv2d), beyond any of its budget"),
        (documents.parity(doubt="output y: hardly varies"), "INCONCLUSIVE", "output y: hardly varies"),
        (documents.snr(), "PASSED", "every output keeps 25 dB, at 31.0 dB"),
        (documents.evaluation(), "PASSED", "drop 0.20 points"),
        (documents.bench(), "MEASURED", "B against A: a.onnx"),
    ],
)
def test_the_verdict_is_a_sentence_at_the_top(document: Any, word: str, told: str) -> None:
    html = html_of(document)
    parsed = Parsed(html)
    (title,) = re.findall("<title>(.*?)</title>", html)
    assert title.startswith(word)
    top = parsed.shown[: parsed.shown.index("Which versions?")]
    assert word in top
    assert told in top
    others = {"PASSED", "FAILED", "INCONCLUSIVE"} - {word}
    assert not [other for other in others if other in parsed.shown]


@pytest.mark.usefixtures("without_figures")
def test_the_five_questions_are_answered() -> None:
    document = documents.conversion(excess=3.1, precision=documents.precision("layer1.conv1"))
    read = page.read_document(page.json_of(document))
    known = answers.answers(read, [("normexport", "1.2.3"), ("torch", "9")])
    told = {each.question: each.answer for each in known}
    assert told["Did it pass?"] == "No."
    assert told["What is not folded, and why?"].startswith(
        "2 of 3 norms. layer1.norm.lowered (lowered): lowered because"
    )
    assert told["Where is the error?"].startswith("First out of its budget: layer1.norm (Conv2d), 3.10x of its budget")
    assert told["What did int8 cost?"].startswith("Int8: top1") or "int8" in told["What did int8 cost?"].lower()
    assert "SNR 37.0 dB" in told["What did int8 cost?"]
    assert "1 module kept in float32 (layer1.conv1)" in told["What did int8 cost?"]
    assert told["Which versions?"] == "normexport 1.2.3, torch 9"


@pytest.mark.usefixtures("without_figures")
def test_versions_hashes_and_options_of_the_report_come_before_those_of_today() -> None:
    made = {
        "versions": {"normexport": "0.0.9", "<b>": "1"},
        "source": [{"file": "m.pt", "bytes": 3, "sha256": "cd" * 32}],
        "options": {"precision": {"": "Int8", "effort": "high", "keep": ["a", "b"]}, "none": None},
    }
    html = html_of({**documents.conversion(), "provenance": made}, versions=[("normexport", "9.9.9")])
    shown = Parsed(html).shown
    for told in (
        "normexport 0.0.9",
        "cd" * 32,
        "precision.effort high",
        "precision.keep a, b",
        "precision Int8",
        "<b> 1",
    ):
        assert told in shown, told
    assert "9.9.9" not in shown


@pytest.mark.usefixtures("without_figures")
def test_every_norm_operator_and_number_of_the_report_is_on_the_page() -> None:
    parsed = Parsed(
        html_of(documents.conversion(precision=documents.precision()), files_beside=[("m.onnx", 1234, "ab" * 32)])
    )
    for told in (
        "layer1.norm.live",
        "live because of norm",
        "stem",
        "1.1e-07 rms",
        "Mul",
        "33.2 dB",
        "41.5 dB",
        "1.23 kB",
    ):
        assert told in parsed.shown, told
    assert "ab" * 32 in parsed.shown
    fates = [attributes["data-fate"] for tag, attributes in parsed.elements if "data-fate" in attributes]
    assert fates == ["folded", "lowered", "live"]


@pytest.mark.usefixtures("without_figures")
def test_without_matplotlib_a_page_has_all_numbers_and_says_how_to_get_figures() -> None:
    parsed = Parsed(html_of(documents.parity()))
    assert not [tag for tag, _ in parsed.elements if tag == "img"]
    assert "pip install 'normexport[report]'" in parsed.shown
    assert "2.5e-07 rms" in parsed.shown


def test_figures_are_drawn_in_light_and_dark_and_always_alike() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'normexport[report]'")
    document = page.read_document(documents.conversion("$x$ <b>", precision=documents.precision("$x$ <b>")))
    first, second = plots.draw_plots(document), plots.draw_plots(document)
    assert first == second
    assert {each.section for each in first} == {"parity", "curve", "sensitivity"}
    for each in first:
        light, dark = (base64.b64decode(uri.partition(",")[2]).decode() for uri in (each.light, each.dark))
        assert plots.LIGHT.main in light
        assert plots.LIGHT.main not in dark
        assert plots.DARK.main in dark or plots.DARK.other in dark
        assert "<script" not in light


def test_what_has_no_number_is_in_the_figure_too() -> None:
    """NaN in place of an error: a figure of the others alone would look as if all were well."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'normexport[report]'")
    broken = documents.parity()
    for name in ("outputs", "layers"):
        broken[name][1] |= {"candidate": None, "budget": None, "excess": None, "fault": "NaN differs"}
        broken[name][1] |= {"passed": False, "verdict": "failed"}
    for whole, told in ((broken, True), (documents.parity(), False)):
        drawn = plots.draw_plots(page.read_document(page.json_of(whole)))
        pictures = [base64.b64decode(plot.light.partition("base64,")[2]).decode() for plot in drawn]
        assert len(pictures) == 2
        assert all(("NaN, or another shape" in picture) == told for picture in pictures)


def test_files_that_are_compared_are_named_where_they_are_several() -> None:
    several = documents.bench()
    several["timings"] = [{**several["timings"][0], "file": f"{name} on x.onnx"} for name in "ab"]
    alike = documents.bench()
    for whole, told in ((several, "B (b on x.onnx) against A (a on x.onnx)"), (alike, "B against A")):
        document = page.read_document(page.json_of(whole))
        assert told in next(
            each.answer for each in answers.answers(document, ()) if each.question == "Which takes longer?"
        )


def test_the_same_result_gives_the_same_bytes() -> None:
    assert html_of(documents.conversion(), ["a", "b"]) == html_of(documents.conversion(), ["a", "b"])


@pytest.mark.usefixtures("without_figures")
def test_twenty_thousand_nodes_are_at_most_five_megabytes() -> None:
    names = [f"layer{index // 10}.block{index}" for index in range(20_000)]
    html = html_of(documents.conversion(), names)
    (rows,) = [code for tag, attributes, code in Parsed(html).code if attributes.get("type") == "application/json"]
    items = json.loads(rows)
    assert sum(item[1] == "operator" for item in items) == 20_000
    assert len(html) <= 5_000_000
