"""Parity, precision and accuracy out of a report's JSON, each field checked by its type."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from normexport.io.json_files import BadJson, Record, amount, count, flag, many, number, optional, record, text
from normexport.reports.page.values import Bins, Compared, Parity, Ranged, Reduced, Score, Snr, Step
from normexport.reports.parity_rows import tightest
from normexport.reports.precision_table import edit_words
from normexport.verdicts import Judgement, Verdict

_NUMBER = optional(number)
_MOST_BINS = 4096  # of one histogram


def verdict(value: Any, where: str) -> Verdict:
    """One of the three words."""
    word = text(value, where)
    if word not in {each.value for each in Verdict}:
        raise BadJson(f"{where} is none of {', '.join(each.value for each in Verdict)}")
    return Verdict(word)


def judgement(fields: Record) -> Judgement:
    """The verdict of an object, with its reasons."""
    return Judgement(fields.get("verdict", verdict), fields.get("reasons", many(text)))


def parity(value: Any, where: str) -> Parity:
    """A report by budgets, or by SNR."""
    fields = record(value, where)
    found = judgement(fields)
    sides = fields.get("reference", text), fields.get("candidate", text), fields.get("precision", text)
    first = fields.get("first_divergence", optional(text))
    if fields.has("min_snr"):
        return Parity(
            found,
            *sides,
            outputs=fields.get("outputs", many(_snr)),
            boundaries=fields.get("layers", many(_snr)),
            first_divergence=first,
            min_snr=fields.get("min_snr", number),
            samples=fields.get("samples", count),
            real=fields.get("inputs", text) == "real",
        )
    return Parity(
        found,
        *sides,
        baseline=fields.get("baseline", text),
        rows=fields.get("outputs", many(_compared)),
        layers=fields.get("layers", many(_compared)),
        unchecked=fields.get("unchecked", many(pair("path", "reason"))),
        notes=fields.get("notes", many(text)),
        first_divergence=first,
    )


def _compared(value: Any, where: str) -> Compared:
    fields = record(value, where)
    fault = fields.get("fault", optional(text))
    errors, allowed = fields.get("candidate", optional(_sizes)), fields.get("budget", optional(_sizes))
    error, budget, measure = None, None, ""
    if fault is None and errors is not None and allowed is not None:
        error, budget, measure = tightest(errors[0], allowed[0], errors[1], allowed[1])
    return Compared(
        fields.get("tensor", text),
        fields.get("path", text),
        fields.get("type", text),
        fields.get("batch", text),
        fields.get("verdict", verdict),
        fields.get("excess", optional(amount)),
        error,
        budget,
        measure,
        fault,
        fields.get("doubt", optional(text)),
    )


def _sizes(value: Any, where: str) -> tuple[float, float]:
    """(rms, largest); what JSON has no number for is beyond any."""
    fields = record(value, where)
    rms, largest = fields.get("rms", optional(amount)), fields.get("max_abs", optional(amount))
    return float("inf") if rms is None else rms, float("inf") if largest is None else largest


def _snr(value: Any, where: str) -> Snr:
    fields = record(value, where)
    return Snr(
        fields.get("path", text) if fields.has("path") else fields.get("name", text),
        fields.get("type", text) if fields.has("type") else "",
        fields.get("snr_db", _NUMBER),
        fields.get("channel_db", _NUMBER),
        fields.get("channel", text),
        fields.get("agreement", _NUMBER),
        *_judged(fields),
    )


def _judged(fields: Record) -> tuple[Verdict, tuple[str, ...]]:
    found = judgement(fields)
    return found.verdict, found.reasons


def score(value: Any, where: str) -> Score:
    """What `evaluate` measured; of a precision, on samples that did not calibrate."""
    fields = record(value, where)
    samples, correct = fields.get("samples", count), fields.get("correct", optional(count))
    interval = fields.get("interval", optional(many(number)))
    if interval is not None and len(interval) != 2:
        raise BadJson(f"{where}.interval is no interval")
    return Score(
        fields.get("model", text),
        samples,
        None if correct is None or not samples else correct / samples,
        None if interval is None else (interval[0], interval[1]),
        fields.get("agreement", _NUMBER),
        fields.get("snr_db", _NUMBER),
        fields.get("drop", _NUMBER),
        fields.get("metric", optional(text)),
        fields.get("value", _NUMBER),
        fields.get("outputs", many(_snr)),
        judgement(fields) if fields.has("verdict") else None,
        fields.get("samples_per_second", number),
    )


def precision(value: Any, where: str) -> Reduced:
    """What a lower precision did."""
    fields = record(value, where)
    known = fields.get("calibration", optional(record))
    return Reduced(
        judgement=judgement(fields),
        dtype=fields.get("dtype", text),
        remainder=fields.get("remainder", text),
        kept=fields.get("kept", many(pair("path", "reason"))),
        widened=fields.get("widened", many(pair("path", "reason"))),
        losses=fields.get("losses", many(pair("path", "message"))),
        float_norms=tuple(each for each in fields.get("norms", many(_norm)) if each[1]),
        integer_nodes=fields.get("integer_nodes", count),
        score=fields.get("accuracy", optional(score)),
        sensitivity=fields.get("sensitivity", many(_sensitivity)),
        curve=fields.get("curve", many(_step)),
        edits=fields.get("edits", many(_edit)),
        method="" if known is None else known.get("method", text),
        samples=0 if known is None else known.get("samples", count),
        histograms=known.get("histograms", many(_bins)) if known is not None and known.has("histograms") else (),
        ranges=known.get("ranges", many(_ranged)) if known is not None and known.has("ranges") else (),
        notes=fields.get("notes", many(text)),
    )


def _norm(value: Any, where: str) -> tuple[str, str]:
    fields = record(value, where)
    return fields.get("path", text) or fields.get("node", text), fields.get("reason", text)


def _sensitivity(value: Any, where: str) -> tuple[str, float | None, float | None]:
    fields = record(value, where)
    return fields.get("path", text), fields.get("alone", _NUMBER), fields.get("without", _NUMBER)


def _step(value: Any, where: str) -> Step:
    fields = record(value, where)
    return Step(
        fields.get("excluded", many(text)),
        fields.get("snr_db", _NUMBER),
        fields.get("drop", _NUMBER),
        fields.get("latency_ms", number),
    )


def _edit(value: Any, where: str) -> str:
    fields = record(value, where)
    edit: Any = SimpleNamespace(
        name=fields.get("name", text),
        kept=fields.get("kept", flag),
        layers=fields.get("layers", count),
        compared=fields.get("compared", text) if fields.has("compared") else "",
        before_db=fields.get("before_db", _NUMBER),
        after_db=fields.get("after_db", _NUMBER),
        reasons=fields.get("reasons", many(text)),
    )
    return edit_words(edit)


def _ranged(value: Any, where: str) -> Ranged:
    fields = record(value, where)
    return Ranged(fields.get("tensor", text), fields.get("range", _ends), fields.get("why", text))


def _ends(value: Any, where: str) -> tuple[float, float]:
    ends = many(number)(value, where)
    if len(ends) != 2:
        raise BadJson(f"{where} is no range")
    return ends[0], ends[1]


def _bins(value: Any, where: str) -> Bins:
    fields = record(value, where)
    counts = fields.get("counts", many(count))
    if not 0 < len(counts) <= _MOST_BINS:
        raise BadJson(f"{where} is no histogram")
    return Bins(
        fields.get("tensor", text),
        fields.get("low", number),
        fields.get("width", amount),
        counts,
        fields.get("range", _ends),
    )


def pair(first: str, second: str) -> Any:
    """A reader of objects with two texts."""

    def read(value: Any, where: str) -> tuple[str, str]:
        fields = record(value, where)
        return fields.get(first, text), fields.get(second, text)

    return read
