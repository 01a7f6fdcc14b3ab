"""int8 with the integers that a network was trained on: quantisation-aware training, kept to the bit.

Every tensor that training rounded is stored in its integers, with their scale and zero point; what it did not round
stays float32. int8 grids are stored as uint8 with their integers moved by 128, which leaves the numbers as they are,
or without zero points where an engine wants that. Where training had fewer integers than 8 bits (0..127, 4 bits), a
Clip of the integers keeps its ends. Biases become int32, which training left in float32.

A norm that folds into a layer behind the rounding scales the steps of its weight, and leaves the integers as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from normexport.errors import UsageError
from normexport.folding.constants import Constants
from normexport.graphs.nodes import op, optional
from normexport.precision.config import TRAINED, EightBit
from normexport.precision.half.search import group_of
from normexport.precision.int8.calibration import Calibration, fingerprint
from normexport.precision.int8.clips import CLIPS
from normexport.precision.int8.corrections import Corrections
from normexport.precision.int8.grids import Grid, WeightGrid
from normexport.precision.int8.pairs import DIRECT, LAYERS
from normexport.precision.int8.pairs_given import Given, take_pairs
from normexport.precision.int8.quantise import is_candidate
from normexport.precision.int8.ranges import Range
from normexport.precision.int8.weights import output_axis, stored
from normexport.text import one_line

#: How the float32 model that int8 is held to is called in reports.
REFERENCE = "the network's own fake-quantised forward"


@dataclass(frozen=True)
class Trained:
    """What training says of a network's tensors.

    Attributes:
        model: without its fake quantisation.
        calibration: ranges by tensor name; no samples.
        corrections: the grids themselves.
        lacking: modules in float32, as training did not round what they read, with that reason.
        notes: in words.
    """

    model: ir.Model
    calibration: Calibration
    corrections: Corrections
    lacking: Mapping[str, str]
    notes: tuple[str, ...]


def calibrate_by_training(model: ir.Model, weights: Mapping[str, WeightGrid], config: EightBit) -> Trained:
    """The grids of a network with fake quantisation.

    Args:
        model: folded, with the pairs of its activations; its weights are the rounded ones.
        weights: their grids, as `take_weights` gave them.

    Raises:
        UsageError: there is no fake quantisation in it.
        FoldError: quantisation that is no pair.
    """
    given = take_pairs(model)
    if not given.grids and not given.ranges and not given.refused:
        cause = "has nothing to read: the network was not trained with fake quantisation, or its file has lost it"
        raise UsageError(f"--calibration {TRAINED}", cause, "give --calibration-data and another method")
    layers, off = _weights_now(given.model, weights)
    lacking = _lacking(given, layers, off)
    grids = dict(given.grids) if config.symmetric else _behind_relu(given)
    ranges: dict[str, Range] = {**given.ranges, **{name: grid.limits for name, grid in grids.items()}}
    found = Calibration(ranges, TRAINED, config.symmetric, fingerprint(given.model), "", 0, 0)
    corrections = Corrections(grids=grids, weights=layers)
    return Trained(given.model, found, corrections, lacking, tuple(_notes(given, layers, config.symmetric)))


def _behind_relu(given: Given) -> dict[str, Grid]:
    """The grids, of what a ReLU makes without their negative integers: the range alone then does its clipping."""
    relu = {str(node.outputs[0].name) for node in given.model.graph if op(node) == "Relu"}
    return {name: grid.without_negatives() if name in relu else grid for name, grid in given.grids.items()}


def _weights_now(model: ir.Model, weights: Mapping[str, WeightGrid]) -> tuple[dict[str, WeightGrid], set[str]]:
    """The grids of the weights as folding left them, and the names of those that are on none any more."""
    found, off = dict[str, WeightGrid](), set[str]()
    for node in model.graph:
        value = optional(node, 1) if op(node) in LAYERS else None
        numbers = stored(value)
        if value is None or numbers is None:
            continue
        name = str(value.name)
        alike = (each for each in weights.values() if each.whole.shape == numbers.shape)
        named = [weights[name]] if name in weights else list(alike)
        now = (each.of(numbers.astype("float32"), output_axis(node, numbers.ndim)) for each in named)
        grid = next((each for each in now if each is not None), None)
        if grid is not None:
            found[name] = grid.refined()
        elif name in weights:
            off.add(name)
    return found, off


def _lacking(given: Given, weights: Mapping[str, WeightGrid], off: set[str]) -> dict[str, str]:
    """Modules of which a node would be in int8 if training had rounded what it reads."""
    constants, found = Constants(given.model.graph), dict[str, str]()
    known = {**given.grids, **given.ranges}
    for node in given.model.graph:
        source = node.inputs[0] if node.inputs and op(node) not in (*CLIPS, *DIRECT) else None
        if source is None or not is_candidate(node, constants):
            continue
        weight = optional(node, 1) if op(node) in LAYERS else None
        name = str(_mover(source, known).name)
        if name in given.refused:
            found.setdefault(group_of(node), f"{one_line(name)} was {given.refused[name]}")
        elif name not in known:
            found.setdefault(group_of(node), f"training did not round {one_line(str(source.name))}")
        elif weight is not None and str(weight.name) in off:
            found.setdefault(group_of(node), f"folding took {one_line(str(weight.name))} off the grid that was trained")
        elif weight is not None and str(weight.name) not in weights and not given.ranges:
            found.setdefault(group_of(node), f"training did not round its weight {one_line(str(weight.name))}")
    return found


def _mover(value: ir.Value, known: Mapping[str, object]) -> ir.Value:
    """The value whose numbers these are, by nodes that only move them."""
    while str(value.name) not in known:
        node = value.producer()
        if node is None or op(node) not in DIRECT or op(node) == "AveragePool" or node.inputs[0] is None:
            break
        value = node.inputs[0]
    return value


def _notes(given: Given, weights: Mapping[str, WeightGrid], symmetric: bool) -> list[str]:
    """What was kept, and what int8 stores otherwise than training had it."""
    grids = list(given.grids.values())
    notes = [f"ranges of training: {len(grids) + len(given.ranges)} of activations, {len(weights)} of weights"]
    notes += [f"{one_line(name)}: {reason}" for name, reason in given.refused.items()]
    if given.ranges:
        count = len(given.ranges)
        what = "is on a grid that does" if count == 1 else "are on grids that do"
        notes.append(f"{count} {what} not go through zero, which int8 moves by up to half a step")
    widths = Counter(grid.high - grid.low + 1 for grid in grids if grid.high - grid.low < 255)
    for width, count in sorted(widths.items()):
        kept = "int8 without zero points goes on beyond" if symmetric else "a Clip of the integers keeps their ends"
        notes.append(f"{count} of {width} integers: {kept}")
    if symmetric:
        notes += _moved(grids)
    wide = sum(grid.stored(symmetric) is None for grid in weights.values())
    if wide:
        notes.append(f"weights of {wide} layers have no such integers in int8, and are rounded anew")
    return notes


def _moved(grids: list[Grid]) -> list[str]:
    wider = sum(grid.about_zero().scale != grid.scale for grid in grids)
    return [f"{wider} with a wider step, as their integers do not fit about a zero point of 0"] if wider else []
