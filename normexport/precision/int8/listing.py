"""What is said of an int8 model: which modules are in float32 and why, what was asked for, what calibrated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import onnx_ir as ir

from normexport.errors import UsageError
from normexport.precision.config import NORMS, TRAINED, EightBit
from normexport.precision.half.search import KeptModule, group_of, matches
from normexport.precision.int8.calibration import Calibration
from normexport.precision.int8.placement import RUNTIME_NAMES, Placement
from normexport.precision.int8.quantise import modules_of
from normexport.precision.int8.ranges import Range
from normexport.precision.int8.storage import PLAIN, Storage
from normexport.proof.inputs.folders import FolderRead


def listing(
    model: ir.Model,
    kept: Mapping[str, str],
    lacking: Mapping[str, str],
    excluded: Sequence[str],
    storage: Storage = PLAIN,
    placed: Placement | None = None,
) -> tuple[KeptModule, ...]:
    """The modules that are not in eight bits, each with its reason."""
    reasons = dict.fromkeys(excluded, "left out so that the limit holds")
    if placed is not None:
        reasons |= dict.fromkeys(placed.excluded, f"float32 is faster there on {RUNTIME_NAMES[placed.runtime]}")
    reasons |= {**lacking, **{path: f"asked for by {pattern}" for path, pattern in kept.items()}}
    return tuple(KeptModule(path, reasons[path]) for path in modules_of(model, storage) if path in reasons)


def told(
    calibration: Calibration,
    read: FolderRead | None,
    quantised: ir.Model | None = None,
    ranges: Mapping[str, Range] | None = None,
) -> dict[str, Any]:
    """What the report says of a calibration; with the histograms of what `quantised` has in eight bits, in its order.

    An edit that gave a tensor another of the `ranges` changed its values too: its histogram is of other numbers.
    `ranges` are those of tensors without a histogram, each with the reason.
    """
    hidden = ("ranges", "seen", "shown")
    found = {field.name: getattr(calibration, field.name) for field in fields(calibration) if field.name not in hidden}
    histograms, others = ([], []) if quantised is None else _pictures(calibration, quantised, ranges or {})
    return {
        **found,
        "folder": None if read is None else read.as_dict(),
        "histograms": histograms,
        "ranges": others,
    }


#: Why there is no histogram where a method makes none.
_NONE = {
    "minmax": "the smallest and the largest value seen; minmax counts none",
    NORMS: "from bounds, which say nothing of how values lie",
    TRAINED: "the grid that training ended with",
}


def _pictures(
    calibration: Calibration, quantised: ir.Model, ranges: Mapping[str, Range]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What there is to show of each tensor in eight bits, in the graph's order: histograms, and ranges alone."""
    histograms, others = list[dict[str, Any]](), list[dict[str, Any]]()
    read = (node.inputs[0] for node in quantised.graph if node.op_type == "QuantizeLinear")
    for name in dict.fromkeys(str(value.name) for value in read if value is not None):
        if name not in ranges:
            continue
        own = ranges[name] == calibration.ranges.get(name)
        if own and name in calibration.shown:
            histograms.append({"tensor": name, **asdict(calibration.shown[name]), "range": list(ranges[name])})
        else:
            kept = _NONE.get(calibration.method, "from a file, which keeps ranges alone")
            why = kept if own else "an edit changed its values and its range"
            others.append({"tensor": name, "range": list(ranges[name]), "why": why})
    return histograms, others


def asked_for(model: ir.Model, config: EightBit) -> dict[str, str]:
    """Modules that the caller keeps in float32, each with its pattern.

    Raises:
        UsageError: a pattern matches nothing.
    """
    kept = {group_of(node): pattern for pattern in config.keep for node in model.graph if matches(node, pattern)}
    for pattern in config.keep:
        if pattern not in kept.values():
            some = ", ".join(modules_of(model)[:4])
            raise UsageError(f"--keep-fp32 {pattern}", "matches no module", f"modules are called {some}, ...")
    return kept
