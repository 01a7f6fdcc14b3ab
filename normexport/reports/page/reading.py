"""The JSON of a result -> what its page shows.

A `report.json` can come from anybody: each field is checked by its type, and what is not as it should be is told by
its place. Files that it names are words here, and are not opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from types import SimpleNamespace
from typing import Any

from normexport.io.json_files import (
    BadJson,
    Record,
    amount,
    by_name,
    count,
    finite,
    flag,
    many,
    number,
    optional,
    record,
    scalar,
    text,
)
from normexport.reports.engine_table import engine_words
from normexport.reports.norm_rows import rows
from normexport.reports.page.reading_inspection import inspection
from normexport.reports.page.reading_judgements import judgement, parity, precision, score
from normexport.reports.page.reading_norms import norm_record, outcome, warning, weight_norm
from normexport.reports.page.values import VERSIONS, Against, Case, Document, FactGroup, Measured
from normexport.reports.words import SOURCES, tally
from normexport.reports.words import count as counted
from normexport.text import one_line

_NUMBER = optional(number)
#: Fields of a report that say where it comes from, at its top or under "provenance", whatever they hold: their titles.
_FACTS = {"versions": VERSIONS, "source": "Made from", "options": "Options", "outputs": "Written"}


def read_document(value: Any) -> Document:
    """The result that a JSON document describes, as written by normexport or by somebody else.

    Raises:
        BadJson: it is no result of `convert`, `parity`, `evaluate`, `bench` or `inspect`, or a field is not as it
            should be.
    """
    fields = record(value, "")
    if fields.has("timings"):
        return _bench(fields)
    if fields.has("outcomes") and fields.has("parity"):
        return _conversion(fields)
    if fields.has("outcomes_note"):
        return inspection(fields)
    if fields.has("samples_per_second"):
        found = score(value, "")
        left_out = _left_out(fields)
        return Document("evaluate", found.model, found.judgement, notes=left_out, score=found, facts=_facts(fields))
    if fields.has("candidate") and fields.has("reference"):
        compared = parity(value, "")
        name = f"{compared.candidate} against {compared.reference}"
        left_out = _left_out(fields)
        return Document("parity", name, compared.judgement, notes=left_out, parity=compared, facts=_facts(fields))
    raise BadJson("it is no report of convert, parity, evaluate, bench or inspect")


def _left_out(fields: Record) -> tuple[str, ...]:
    """Samples that could not be read, which earlier versions did not list."""
    lines = fields.get("skipped", many(text)) if fields.has("skipped") else ()
    return tuple(f"left out: {line}" for line in lines)


def json_of(value: Any) -> Any:
    """A result's `as_dict()` as its JSON file would give it back: no infinities, and text that is Unicode."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {json_of(str(key)): json_of(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_of(item) for item in value]
    return finite(value)


def _conversion(fields: Record) -> Document:
    records, outcomes = fields.get("norms", many(norm_record)), fields.get("outcomes", many(outcome))
    operators = fields.get("operators", record)
    path, source = fields.get("path", text), fields.get("source", text)
    header = [SOURCES.get(source, source), f"reads {', '.join(fields.get('inputs', many(_input)))}"]
    weights = fields.get("weight_norms", many(weight_norm))
    if weights:
        header.append(f"{counted(len(weights), 'weight')} under weight norm ({tally(weights)})")
    health = [(each.path, finding) for each in records for finding in each.health]
    return Document(
        "convert",
        PurePath(path).name or path,
        judgement(fields),
        header=tuple(header),
        norms=tuple(rows(records, outcomes)),
        notes=fields.get("notes", many(text)),
        warnings=(*health, *fields.get("warnings", many(warning))),
        before=operators.get("before", by_name(count)),
        after=operators.get("after", by_name(count)),
        files=tuple(PurePath(each).name for each in fields.get("files", many(text))),
        seconds=fields.get("seconds", by_name(amount)),
        engine=fields.get("engine", _engine),
        parity=fields.get("parity", parity),
        precision=fields.get("precision", optional(precision)),
        facts=_facts(fields),
    )


def _input(value: Any, where: str) -> str:
    fields = record(value, where)
    sizes = [one_line(size) for size in fields.get("shape", many(scalar))]
    return f"{fields.get('name', text)} {'x'.join(sizes) or 'scalar'} {fields.get('dtype', text)}"


def _engine(value: Any, where: str) -> tuple[str, ...]:
    """The words of the terminal; none without an engine."""
    if value is None:
        return ()
    fields = record(value, where)
    manifest: Any = SimpleNamespace(
        flavor=fields.get("flavor", text),
        flavor_version=fields.get("flavor_version", text),
        targets=fields.get("targets", many(text)),
        precision=fields.get("precision", by_name(count)),
        plugins=fields.get("plugins", many(many(text))),
        bodies=fields.get("bodies", many(text)),
    )
    return tuple(word for word in engine_words(manifest) if word)


def _bench(fields: Record) -> Document:
    cases = fields.get("timings", many(_case))
    ratios = fields.get("ratios", many(_ratio))
    if any(not (each.case < len(cases) and each.base < len(cases)) for each in ratios):
        raise BadJson("ratios compare cases that are not among timings")
    measured = Measured(
        cases,
        ratios,
        fields.get("least_difference", amount),
        fields.get("inputs", text),
        fields.get("machine", by_name(text)),
    )
    name = ", ".join(dict.fromkeys(case.words.rpartition(" on ")[0] for case in cases))
    return Document("bench", name, None, notes=fields.get("notes", many(text)), measured=measured, facts=_facts(fields))


def _case(value: Any, where: str) -> Case:
    fields = record(value, where)
    threads, batch = fields.get("threads", optional(count)), fields.get("batch", optional(count))
    words = f"{fields.get('file', text)} on {fields.get('runtime', text)}"
    words += f", batch {batch}" if batch else ""
    words += f", {counted(threads, 'thread')}" if threads else ""
    return Case(
        words,
        (fields.get("p50", _NUMBER), fields.get("p90", _NUMBER), fields.get("p99", _NUMBER)),
        fields.get("throughput", _NUMBER),
        fields.get("load", _NUMBER),
        fields.get("first", _NUMBER),
        fields.get("peak_memory", optional(count)),
    )


def _ratio(value: Any, where: str) -> Against:
    fields = record(value, where)
    return Against(
        fields.get("case", count),
        fields.get("base", count),
        fields.get("ratio", _NUMBER),
        fields.get("low", _NUMBER),
        fields.get("high", _NUMBER),
        fields.get("words", text),
        fields.get("differs", flag),
    )


def _facts(fields: Record) -> tuple[FactGroup, ...]:
    """What a report says of where it comes from, one line for each value however deep it lies."""
    found: dict[str, Any] = {}
    if fields.has("provenance"):
        known = fields.get("provenance", record)
        found = {name: known.get(name, _any) for name in _FACTS if known.has(name)}
    return tuple((_FACTS[name], pairs) for name, value in found.items() if (pairs := tuple(_flat(value))))


def _any(value: Any, where: str) -> Any:
    return value


def _flat(value: Any, place: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict):
        inner = ((f"{place}.{name}".strip("."), item) for name, item in value.items())
        return [pair for name, item in inner for pair in _flat(item, name)]
    if isinstance(value, list):
        plain = all(not isinstance(item, (dict, list)) for item in value)
        if plain:
            return [(place, ", ".join(map(str, value)))] if value else []
        return [pair for index, item in enumerate(value) for pair in _flat(item, f"{place}[{index}]")]
    return [] if value is None else [(place, str(value))]
