"""Mean and standard deviation of tensors, per channel, as the norms of a network know them: they travel in the file.

A folded model has no norms any more, but its tensors still have the statistics that these were trained on. The model's
metadata keeps them under `KEY`, as JSON by value name, four digits each:

    {"relu_1": {"axis": 1, "kind": "l1", "mean": [0.12, ...], "norm": "layer1.0.bn1", "std": [0.98, ...]}, ...}

Names suffice: a value's name means the same tensor before a fold and after it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import ArrayLike, NDArray

from normexport.io.json_files import (
    BadJson,
    Record,
    amount,
    by_name,
    count,
    flag,
    many,
    number,
    parse_json,
    record,
    text,
    word,
)

Vector = NDArray[np.float64]

KEY = "normexport.moments"


@dataclass(frozen=True, eq=False)
class Moments:
    """What a norm says of one tensor.

    Attributes:
        mean, std: float64 (C,), finite; std is 0 or more.
        axis: where the C channels lie, counted from the front.
        kind: of the norm: "l1", "batchnorm", ...; a statistic says more of a distribution than its width.
        norm: module path of the norm, or the name of its node.
        per_sample: whether each channel of each sample has them, not only all samples together.
    """

    mean: Vector
    std: Vector
    axis: int = 1
    kind: str = ""
    norm: str = ""
    per_sample: bool = False

    @classmethod
    def of(
        cls,
        mean: ArrayLike,
        std: ArrayLike,
        axis: int = 1,
        kind: str = "",
        norm: str = "",
        per_sample: bool = False,
    ) -> Moments | None:
        """From (C,) arrays; None where a number is not finite, so that nothing is known."""
        center, spread = (np.asarray(each, np.float64).reshape(-1) for each in (mean, std))
        alike = center.shape == spread.shape and center.size > 0
        known = alike and bool(np.isfinite(center).all() and np.isfinite(spread).all())
        return cls(center, np.abs(spread), axis, kind, norm, per_sample) if known else None


def moments_in(model: ir.Model) -> dict[str, Moments]:
    """The moments that a model carries, by value name; those of values that it does not have are left out.

    Raises:
        BadJson: the metadata is not of this form.
    """
    if KEY not in model.metadata_props:
        return {}
    found = by_name(_moments)(parse_json(model.metadata_props[KEY]), KEY)
    names = _names(model)
    return {name: moments for name, moments in found.items() if name in names}


def carry_moments(model: ir.Model, known: Mapping[str, Moments]) -> None:
    """Write moments into the model's metadata, in place, beside those that it carries; of values that it has."""
    try:
        before = moments_in(model)
    except BadJson:
        before = {}
    names = _names(model)
    kept = before | {name: moments for name, moments in known.items() if name in names}
    if kept:
        model.metadata_props[KEY] = json.dumps({name: _as_json(each) for name, each in kept.items()})
    else:
        model.metadata_props.pop(KEY, None)


def divide_moments(model: ir.Model, divisors: Mapping[str, tuple[int, Vector]]) -> None:
    """Divide what a model carries of tensors whose channels were divided, in place; damaged metadata is left alone.

    Args:
        divisors: by value name the axis of the channels, and a positive number for each.
    """
    try:
        carried = moments_in(model)
    except BadJson:
        return
    changed = {}
    for name, (axis, divisor) in divisors.items():
        moments = carried.get(name)
        if moments is not None and moments.axis == axis and moments.mean.shape == divisor.shape:
            changed[name] = replace(moments, mean=moments.mean / divisor, std=moments.std / divisor)
    if changed:
        carry_moments(model, changed)


def _names(model: ir.Model) -> set[str]:
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    return {value.name for value in values if value.name}


def _as_json(moments: Moments) -> dict[str, Any]:
    numbers = {name: [float(f"{each:.4g}") for each in getattr(moments, name)] for name in ("mean", "std")}
    sample = {"per_sample": True} if moments.per_sample else {}
    return {"axis": moments.axis, "kind": moments.kind, "norm": moments.norm, **numbers, **sample}


def _moments(value: Any, where: str) -> Moments:
    fields: Record = record(value, where)
    axis, kind, norm = fields.get("axis", count), fields.get("kind", word), fields.get("norm", text)
    per_sample = fields.get("per_sample", flag) if fields.has("per_sample") else False
    found = Moments.of(fields.get("mean", many(number)), fields.get("std", many(amount)), axis, kind, norm, per_sample)
    fields.no_more()
    if found is None:
        raise BadJson(f"{where} has not one finite mean and std per channel")
    return found
