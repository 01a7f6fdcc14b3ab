"""One row per norm: what the checkpoint said of it, joined with what became of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from normexport.reports.words import count

if TYPE_CHECKING:
    from normexport.checkpoint import NormRecord
    from normexport.folding import NormOutcome

#: More norms than this and those that fared alike share a row; refusals always have their own.
SINGLY = 24

_NODE_NAME = re.compile(r" '[^']*'")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        path: module path, or the node's name where the file keeps no paths.
        kind, channels: as stored; "" where unknown.
        fate: "folded", "lowered", "live", or "" where folding was not tried.
        why: where it went, or why it stays.
        rule: the rule that decided, as `NormOutcome` has it.
    """

    path: str
    kind: str
    channels: str
    fate: str
    why: str
    rule: str = ""


def rows(norms: Sequence[NormRecord], outcomes: Sequence[NormOutcome]) -> list[Row]:
    """The norms of the graph in its order, then those of the checkpoint that the graph does not show."""
    records = {record.path: record for record in norms}
    found = [_join(records.get(outcome.path), outcome) for outcome in outcomes]
    met = {outcome.path for outcome in outcomes}
    return found + [_row_without_outcome(record) for record in norms if record.path not in met]


def group_rows(every: Sequence[Row]) -> list[Row]:
    """The same, with folded norms of one kind and one reason (but for the node's name) in one row, if many."""
    if len(every) <= SINGLY:
        return list(every)
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in every:
        if row.fate == "folded":
            groups.setdefault((row.kind, _nameless(row.why)), []).append(row)
    large = {key: members for key, members in groups.items() if len(members) > 2}
    shown, done = [], set()
    for row in every:
        key = (row.kind, _nameless(row.why))
        if row.fate != "folded" or key not in large:
            shown.append(row)
        elif key not in done:
            done.add(key)
            shown.append(_together(large[key], key[1]))
    return shown


def _together(members: Sequence[Row], why: str) -> Row:
    sizes = sorted({int(row.channels) for row in members if row.channels})
    channels = "" if not sizes else str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]}-{sizes[-1]}"
    return Row(count(len(members), "norm"), members[0].kind, channels, "folded", why)


def _nameless(why: str) -> str:
    return _NODE_NAME.sub("", why)


def _join(record: NormRecord | None, outcome: NormOutcome) -> Row:
    kind = outcome.kind
    if record is not None and kind in ("chain", "unknown", ""):
        kind = record.called
    channels = "" if record is None else str(record.channels)
    return Row(outcome.path or outcome.node, kind, channels, outcome.fate, outcome.reason, outcome.rule)


def _row_without_outcome(record: NormRecord) -> Row:
    from normexport.norms import Scope  # brings onnx along

    live = record.statistics != "running"
    why = f"statistics come from the {Scope(record.statistics).source} at inference" if live else ""
    return Row(record.path, record.called, str(record.channels), "", why)
