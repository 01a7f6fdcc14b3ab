"""What `inspect` says of a file out of its JSON: norms, what would become of them, and of an ONNX file what it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from normexport.io.json_files import Record, by_name, count, many, optional, record, scalar, text
from normexport.reports.norm_rows import rows
from normexport.reports.page.reading_norms import norm_record, outcome, warning, weight_norm
from normexport.reports.page.values import Document
from normexport.reports.words import SOURCES, size_words, tally
from normexport.reports.words import count as counted
from normexport.text import one_line


def inspection(fields: Record) -> Document:
    """An inspection; norms whose fate the graph alone would tell have none."""
    records, outcomes = fields.get("norms", many(norm_record)), fields.get("outcomes", optional(many(outcome)))
    path, source = fields.get("path", text), fields.get("source", text)
    weights = fields.get("weight_norms", many(weight_norm))
    held = [f"{counted(len(weights), 'weight')} under weight norm ({tally(weights)})"] if weights else []
    file = fields.get("file", optional(record))
    operators = {} if file is None else file.get("operators", by_name(count))
    note = fields.get("outcomes_note", text)
    return Document(
        "inspect",
        PurePath(path).name or path,
        None,
        header=(SOURCES.get(source, source), *held),
        norms=tuple(rows(records, outcomes or ())),
        notes=(*fields.get("notes", many(text)), *([f"what would fold is not known: {note}"] if note else [])),
        warnings=(
            *((each.path, finding) for each in records for finding in each.health),
            *fields.get("warnings", many(warning)),
        ),
        before=operators,
        after=operators,
        facts=() if file is None else (("The file", tuple(_file(file))),),
    )


def _file(fields: Record) -> Iterator[tuple[str, str]]:
    """What an ONNX file is, in the words of the terminal."""
    for each in fields.get("inputs", many(_port)):
        yield "reads", each
    for each in fields.get("outputs", many(_port)):
        yield "returns", each
    for domain, version in fields.get("opsets", by_name(count)).items():
        yield "operator set", f"{domain or 'ONNX'} {version}"
    yield "IR", str(fields.get("ir_version", count))
    if producer := fields.get("producer", text):
        yield "made by", producer
    yield "computes in", fields.get("precision", text)
    for kind, number in fields.get("weights", by_name(count)).items():
        yield "weights", f"{number} of {kind}"
    yield "size", size_words(fields.get("bytes", count) + fields.get("data_bytes", count))


def _port(value: Any, where: str) -> str:
    fields = record(value, where)
    sizes = fields.get("shape", optional(many(optional(scalar))))
    shape = "of any rank" if sizes is None else "x".join("?" if size is None else one_line(size) for size in sizes)
    return f"{fields.get('name', text)} {shape or 'scalar'} {fields.get('dtype', text)}"
