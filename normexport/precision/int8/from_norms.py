"""Ranges without data: what a network's norms know of its tensors is how wide these are.

The range of a tensor is that which `mse` takes of its spread, as it takes it of a histogram. Three sorts differ:

- What lies within bounds keeps them whole: inputs, whatever only moves them, results of a Softmax.
- What a MaxPool alone reads gets the range of its result where a norm knows that: max(clip(x)) is clip(max(x)).
- Inputs lie in the bounds that were declared (`image=3x224x224:float32[0..1]`); else in the narrowest of the usual
  ranges that holds the mean m and variance v which the first norm implies. Numbers in [a, b] have v <= (b - m)(m - a).

Pulled back from the first layer, W x + b of mean beta and variance s^2: m is what fits beta - b = m sum W, v what fits
s^2 = v sum W^2, over the layer's channels, by least squares in units of s and of what is known of beta - b, and by the
median. In units of s alone four dead channels of the 32 of EfficientNet-Lite0 gave its input a mean of 7.3 for -0.08.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from normexport.dtypes import FLOAT32
from normexport.errors import UsageError
from normexport.folding.constants import Constants
from normexport.folding.moments import moments_of_norms
from normexport.graphs.moments import KEY, Moments, moments_in
from normexport.graphs.nodes import op, readers
from normexport.graphs.refusal import Refuse
from normexport.io.json_files import BadJson
from normexport.onnx_export import InputSpec
from normexport.precision.config import NORMS
from normexport.precision.half.search import group_of
from normexport.precision.int8.calibration import Calibration, fingerprint
from normexport.precision.int8.clips import CLIPS
from normexport.precision.int8.pairs import DIRECT
from normexport.precision.int8.propagate import Tensor, propagate
from normexport.precision.int8.quantise import is_candidate
from normexport.precision.int8.ranges import Range, mse
from normexport.precision.int8.spreads import TAILS, Array, Spread
from normexport.precision.int8.storage import PLAIN, Storage
from normexport.text import one_line, port_words

#: Ranges of inputs, narrowest first, each with the share of the largest possible variance that is taken for it:
#: digits come near that of [0, 1], what is standardised (m = 0, v = 1) must not be taken for [-1, 1].
_USUAL: tuple[tuple[Range, float], ...] = (
    ((0.0, 1.0), 1.3),
    ((-1.0, 1.0), 0.6),
    ((-2.2, 2.7), 0.6),
    ((0.0, 255.0), 1.3),
)
_BEYOND = 5.0  # standard deviations to either side, where no usual range fits
_WIDEST = 12.0  # standard deviations that a usual range may span
_DIGITS = 1e-3  # of a mean that a file carries: by how much it may be off


@dataclass(frozen=True)
class NormRanges:
    """Ranges that norms gave, and what they did not.

    Attributes:
        calibration: ranges by tensor name; no samples.
        origins: "norm", "propagated" or "bound", by tensor name.
        lacking: modules in float32, as their inputs' spread is not known, with that reason.
        notes: in words.
        tensors: how each tensor is spread that something is known of, by name.
        inputs: mean and deviation of each input of which these are known, by name.
    """

    calibration: Calibration
    origins: Mapping[str, str]
    lacking: Mapping[str, str]
    notes: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    inputs: Mapping[str, tuple[float, float]]


def calibrate_by_norms(
    model: ir.Model, inputs: Sequence[InputSpec], *, symmetric: bool = False, storage: Storage = PLAIN
) -> NormRanges:
    """Ranges of a folded float32 model's tensors, from what its norms know.

    Raises:
        UsageError: no norm says anything of any tensor, or the model's metadata is damaged.
    """
    known = known_moments(model)
    if not known:
        cause = "has nothing to read: the model has no norms with statistics, and carries none of those that it had"
        raise UsageError(f"--calibration {NORMS}", cause, "give --calibration-data and another method")
    given, of_inputs, notes = _inputs(model, inputs, known)
    tensors = propagate(model, known, given)
    ranges = {name: _range(tensor, symmetric, storage) for name, tensor in tensors.items()}
    ranges |= _before_pools(model, tensors, ranges)
    ranges = {name: each for name, each in ranges.items() if max(map(abs, each)) <= FLOAT32.largest}
    origins = {name: tensors[name].origin for name in ranges}
    lacking = _lacking(model, ranges)
    implied = {name: tensors[name].spread.histogram().coarse() for name in ranges}
    shown = {name: bins for name, bins in implied.items() if bins is not None}
    found = Calibration(ranges, NORMS, symmetric, fingerprint(model), "", 0, 0, dtype=storage.dtype, shown=shown)
    return NormRanges(found, origins, lacking, (*notes, _counted(origins, lacking)), tensors, of_inputs)


def known_moments(model: ir.Model) -> dict[str, Moments]:
    """What norms say of tensors: those that are still there, and those that the model carries.

    Raises:
        UsageError: what it carries is damaged.
    """
    try:
        carried = moments_in(model)
    except BadJson as error:
        cause = f"is not what a fold writes ({error})"
        raise UsageError(f"metadata {KEY}", cause, "fold the model again") from error
    return {**moments_of_norms(model.graph, Constants(model.graph)), **carried}


def _range(tensor: Tensor, symmetric: bool, storage: Storage) -> Range:
    points = tensor.spread.points
    ends = float(points.min()), float(points.max())
    if tensor.origin == "bound" or not FLOAT32.smallest_normal < ends[1] - ends[0] < FLOAT32.largest:
        return ends
    return mse(tensor.spread.histogram(), symmetric, storage)


def _before_pools(model: ir.Model, tensors: Mapping[str, Tensor], ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Ranges of what a MaxPool alone reads, where a norm knows its result."""
    found = dict[str, Range]()
    for node in model.graph:
        if op(node) != "MaxPool" or node.inputs[0] is None:
            continue
        source, result = node.inputs[0], str(node.outputs[0].name)
        alone = len(source.uses()) == 1 and not source.is_graph_output() and str(source.name) in tensors
        if alone and result in ranges and tensors[result].origin == "norm":
            found[str(source.name)] = ranges[result]
    return found


def _inputs(
    model: ir.Model, inputs: Sequence[InputSpec], known: Mapping[str, Moments]
) -> tuple[dict[str, Spread], dict[str, tuple[float, float]], list[str]]:
    """Of the inputs that are floating numbers and of which something is known: spreads, mean and deviation, words."""
    found, notes, specs = dict[str, Spread](), list[str](), {spec.name: spec for spec in inputs}
    moments = dict[str, tuple[float, float]]()
    constants = Constants(model.graph)
    for value in model.graph.inputs:
        name = str(value.name)
        if value.dtype != ir.DataType.FLOAT or value in model.graph.initializers.values():
            continue
        implied = _implied(value, known, constants)
        spec = specs.get(name)
        bounds = spec.bounds if spec is not None else None
        if bounds is not None:
            ends, words = bounds, "as declared"
        elif implied is not None:
            ends, words = _usual(*implied[:2])
            words = f"{words} of mean {implied[0]:.3g} and deviation {implied[1]:.3g}, which {implied[2]} implies"
        else:
            notes.append(
                f"{port_words('input', name)}: its range is not known; declare it: --input '{name}=...:float32[0..1]'"
            )
            continue
        mean, std = implied[:2] if implied is not None else ((ends[0] + ends[1]) / 2, (ends[1] - ends[0]) / 4)
        points = np.clip(mean + std * TAILS["middle"], *ends)
        points[0], points[-1] = ends
        found[name], moments[name] = Spread(points[None]), (mean, std)
        notes.append(f"{port_words('input', name)}: {ends[0]:.3g} to {ends[1]:.3g}, {words}")
    return found, moments, notes


def _implied(value: ir.Value, known: Mapping[str, Moments], constants: Constants) -> tuple[float, float, str] | None:
    """Mean and deviation of an input by the norm on it, or behind the first layer; and the norm's name."""
    for _ in range(8):  # nodes that move numbers
        moments = known.get(str(value.name))
        if moments is not None:
            mean = float(moments.mean.mean())
            return mean, float(np.sqrt(np.mean(np.square(moments.std)) + moments.mean.var())), moments.norm
        uses = readers(value)
        if not uses:
            return None
        node = uses[0].node
        behind = known.get(str(node.outputs[0].name))
        if behind is not None and op(node) in ("Conv", "Gemm", "MatMul"):
            return _pulled_back(node, behind, constants)
        if op(node) not in ("Reshape", "Flatten", "Transpose", "Identity", "Squeeze", "Unsqueeze", "Pad", "Cast"):
            return None
        value = node.outputs[0]
    return None


def _pulled_back(node: ir.Node, behind: Moments, constants: Constants) -> tuple[float, float, str] | None:
    try:
        weight = np.asarray(constants.array(node.inputs[1]), np.float64)
        bias = constants.array(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else np.zeros(1)
    except Refuse:
        return None
    if op(node) == "MatMul" or (op(node) == "Gemm" and not node.attributes.get_int("transB", 0)):
        weight = weight.T
    rows: Array = weight.reshape(len(weight), -1)
    if len(rows) != len(behind.mean) or bias.size not in (1, len(rows)):
        return None
    sums, squares = rows.sum(axis=1), np.square(rows).sum(axis=1)
    # A channel that training switched off has next to no deviation, and of its mean four digits are known.
    weights = 1 / (
        np.square(behind.std) + np.square(_DIGITS * behind.mean) + np.square(_DIGITS * bias.reshape(-1)) + 1e-30
    )
    power = float((weights * sums * sums).sum())
    live = squares > 0
    if not power > 0 or not live.any():
        return None
    mean = float((weights * sums * (behind.mean - bias.reshape(-1))).sum()) / power
    std = float(np.sqrt(np.median(np.square(behind.std[live]) / squares[live])))
    return (mean, std, behind.norm) if np.isfinite([mean, std]).all() and std > 0 else None


def _usual(mean: float, std: float) -> tuple[Range, str]:
    for (low, high), share in _USUAL:
        if low <= mean <= high and std**2 <= share * (high - mean) * (mean - low) and high - low <= _WIDEST * std:
            return (low, high), "usual for inputs"
    return (mean - _BEYOND * std, mean + _BEYOND * std), f"{_BEYOND:g} deviations to either side"


def _lacking(model: ir.Model, ranges: Mapping[str, Range]) -> dict[str, str]:
    """Modules of which a node would be in int8 if the range of what it reads were known."""
    constants, found = Constants(model.graph), dict[str, str]()
    for node in model.graph:
        source = node.inputs[0] if node.inputs and op(node) not in (*CLIPS, *DIRECT) else None
        if source is not None and str(source.name) not in ranges and is_candidate(node, constants):
            found.setdefault(group_of(node), f"no norm tells the range of {one_line(str(source.name))}: data would")
    return found


def _counted(origins: Mapping[str, str], lacking: Mapping[str, str]) -> str:
    counts = Counter(origins.values())
    words = {"norm": "by norms", "propagated": "propagated from these", "bound": "by bounds"}
    told = ", ".join(f"{counts[origin]} {text}" for origin, text in words.items() if counts[origin])
    return f"ranges: {told}" + (
        f"; {len(lacking)} module{'s' * (len(lacking) != 1)} would need data" if lacking else ""
    )
