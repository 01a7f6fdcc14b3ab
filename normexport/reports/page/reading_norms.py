"""Norms out of a report's JSON, as checkpoints have them and as folding leaves them."""

from __future__ import annotations

from typing import Any, cast

from normexport.checkpoint.records import NormRecord, WeightNormRecord
from normexport.folding.result import Fate, NormOutcome
from normexport.io.json_files import BadJson, Record, count, dimension, many, number, record, text


def norm_record(value: Any, where: str) -> NormRecord:
    """A norm as a checkpoint has it."""
    fields = record(value, where)
    return NormRecord(
        fields.get("path", text),
        fields.get("kind", text),
        fields.get("dialect", text),
        fields.get("channels", count),
        _statistics(fields),
        fields.get("health", many(text)),
        fields.get("class_name", text),
    )


def _statistics(fields: Record) -> str:
    from normexport.norms import Scope

    found = fields.get("statistics", text)
    if found not in ("running", *(scope.value for scope in Scope)):
        raise BadJson(f"the statistics of a norm are {found[:40]!r}")
    return found


def outcome(value: Any, where: str) -> NormOutcome:
    """What became of a norm, or would become of it."""
    fields = record(value, where)
    fate = fields.get("fate", text)
    if fate not in ("folded", "lowered", "live"):
        raise BadJson(f"{where}.fate is none of folded, lowered, live")
    return NormOutcome(
        fields.get("node", text),
        fields.get("path", text),
        fields.get("kind", text),
        cast(Fate, fate),
        fields.get("rule", text),
        fields.get("into", many(text)),
        fields.get("reason", text),
    )


def weight_norm(value: Any, where: str) -> str:
    """How a weight under weight norm is stored."""
    fields = record(value, where)
    return WeightNormRecord(
        fields.get("path", text), fields.get("layout", text), fields.get("axis", dimension), fields.get("p", number)
    ).layout


def warning(value: Any, where: str) -> tuple[str, str]:
    """The module or node, and what is said of it."""
    fields = record(value, where)
    return fields.get("path", text) or fields.get("node", text), fields.get("message", text)
