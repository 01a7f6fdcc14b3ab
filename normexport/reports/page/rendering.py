"""A page out of its values: one HTML file that needs nothing beside it.

Whatever stands in it was made fit to be shown (`show_text`) and escaped by the template; the script gets its rows as
JSON, without any character that ends a script, and makes text of them. A content security policy lets nothing run or
load but what was written here, told by its hash, so that even what slipped through would do nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from normexport._version import __version__
from normexport.dtypes import EIGHT_BITS
from normexport.errors import MissingComponent
from normexport.precision.config import NORMS
from normexport.reports.bench_table import seconds
from normexport.reports.page import answers, plots
from normexport.reports.page.histograms import bars, spans
from normexport.reports.page.network import Network
from normexport.reports.page.values import VERSIONS, Document
from normexport.reports.words import case_name, size_words
from normexport.text import one_line

LONGEST = 600  # characters of a text; the rest of a name of 100,000 helps nobody

_MISSING = f"No figures: matplotlib is not installed; {MissingComponent.of('matplotlib', 'report').remedy}"

#: What `bench` says of a machine beside versions.
_MACHINE = ("processor", "system")

#: Files beside a report: (name, bytes, SHA-256).
FileRow = tuple[str, int, str]


def show_text(value: object) -> str:
    """Text out of a file in one line, what does not print escaped, cut where it is longer than anybody reads."""
    line = one_line(str(value)[: 4 * LONGEST])
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


def render(
    document: Document,
    network: Network | None = None,
    *,
    versions: Sequence[tuple[str, str]] = (),
    files_beside: Sequence[FileRow] = (),
    notes: Sequence[str] = (),
) -> str:
    """The page of a result.

    Args:
        network: the graph, where there is an ONNX file.
        versions: of normexport and what it ran with, where the report itself names none.
        files_beside: what lies beside the report.
        notes: what a reader of the page should know of the page itself.
    """
    style, script = _own("page.css"), _own("graph.js") + _own("page.js")
    layout = _own("dagre.min.js") if network is not None else ""
    told = _told_versions(document) or tuple(versions)
    return (
        _environment()
        .get_template("page.html")
        .render(
            document=document,
            network=network,
            network_rows=None if network is None else Markup(_script_json(_rows(network))),
            answers=answers.answers(document, told),
            sentence=answers.sentence(document),
            headline=_headline(document),
            became="would be" if document.verb == "inspect" else "became",
            plots=_plots_by_section(document),
            figures_missing="" if plots.can_plot() else _MISSING,
            bars=bars,
            spans=spans,
            norms_method=NORMS,
            versions=told,
            files_beside=files_beside,
            notes=notes,
            style=Markup(style),
            script=Markup(script),
            layout=Markup(layout),
            policy=_policy(style, script, layout),
            version=__version__,
            score_facts=_score_facts(document),
            operators=_operators(document),
            files_named=[(name, "") for name in document.files],
            stages=[(stage, f"{value:.1f}") for stage, value in document.seconds.items()],
            eight_bits=EIGHT_BITS,
            machine=_machine(document),
        )
    )


def _headline(document: Document) -> str:
    if document.judgement is not None:
        return document.judgement.verdict.word
    return "INSPECTED" if document.verb == "inspect" else "MEASURED"


def _score_facts(document: Document) -> list[tuple[str, str]]:
    score = document.score if document.precision is None else document.precision.score
    if score is None:
        return []
    words = [("samples", str(score.samples)), ("measured", ", ".join(answers.score_words(score)))]
    speed = [("speed", f"{score.samples_per_second:.4g} samples/s")] if score.samples_per_second else []
    return [*words, *speed]


def _operators(document: Document) -> list[tuple[str, int, int]]:
    """(name, before, after), what changed most first."""
    names = {**document.before, **document.after}
    counts = [(name, document.before.get(name, 0), document.after.get(name, 0)) for name in names]
    return sorted(counts, key=lambda each: -abs(each[2] - each[1]))


def _machine(document: Document) -> list[tuple[str, str]]:
    known = {} if document.measured is None else document.measured.machine
    return [(name, known[name]) for name in _MACHINE if name in known]


def _told_versions(document: Document) -> tuple[tuple[str, str], ...]:
    """Versions that the report itself names."""
    if document.measured is not None:
        machine = document.measured.machine
        return tuple((name, value) for name, value in machine.items() if name not in _MACHINE)
    return next((pairs for title, pairs in document.facts if title == VERSIONS), ())


def _plots_by_section(document: Document) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for plot in plots.draw_plots(document):
        found.setdefault(plot.section, []).append(plot)
    return found


def _rows(network: Network) -> list[list[Any]]:
    return [
        [
            show_text(item.name),
            item.kind,
            show_text(item.type),
            item.parent,
            item.sources,
            item.fate,
            [[show_text(term), show_text(value)] for term, value in item.facts if value],
            item.out,
        ]
        for item in network.items
    ]


def _script_json(value: Any) -> str:
    """JSON in ASCII that holds none of the characters that mean something to HTML."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _own(name: str) -> str:
    return (files("normexport.reports.page") / name).read_text("utf-8")


def _policy(style: str, *scripts: str) -> str:
    allowed = " ".join(_hash(each) for each in scripts if each)
    return (
        f"default-src 'none'; style-src {_hash(style)}; script-src {allowed}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _finalised(value: Any) -> Any:
    """What an expression of the template gives: text made fit to be shown; markup is our own alone."""
    return value if isinstance(value, (Markup, int, float)) else "" if value is None else show_text(value)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("normexport.reports.page", ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalised,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        used=answers.used_words,
        uri=Markup,  # of our own making, in letters that mean nothing to HTML
        seconds=lambda value: "" if value is None else seconds(value),
        bytes=size_words,
        decibels=lambda value: "" if value is None else f"{value:.1f} dB",
        small=lambda value: "" if value is None else f"{value:.1e}",
        percent=lambda value: "" if value is None else f"{100 * value:.2f} %",
        case=case_name,
    )
    return environment
