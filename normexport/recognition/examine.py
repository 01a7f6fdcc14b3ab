"""From a region to the norm that it is, or to the reason why it is none of the operators'."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from normexport.graphs.nodes import label
from normexport.graphs.refusal import Refuse
from normexport.graphs.shapes import Shapes
from normexport.io.onnx_domain import opset_in
from normexport.recognition.behaviour import BIAS, OtherDivisor, draw, is_normalising, read_divisor
from normexport.recognition.extent import Extent, RowTrial, read_extents
from normexport.recognition.flow import Region
from normexport.recognition.places import check_sizes, uneven_step
from normexport.recognition.proof import prove, prove_places
from normexport.recognition.sizes import small_shapes, true_shapes, working_shapes
from normexport.recognition.statistic import Reading, read_statistic
from normexport.recognition.trial import Runner, Sizes, Trial

_LEAST_OPSET = 18  # of the operators' bodies
_FEW_ELEMENTS = 1 << 16
_WANTED = 3  # shapes with different numbers of elements
_WHOLE = (ir.DataType.INT64, ir.DataType.INT32)
_MOST_NUMBERS = 40
_GREATEST_NUMBER = 1 << 16


def examine(region: Region, opsets: Mapping[str, int], shapes: Shapes) -> Reading | None:
    """The norm that a region is; None where it does not normalise at all.

    Raises:
        Refuse: it normalises, but as no operator does, or it can't be replaced.
    """
    sizes = shapes.named(region.input)
    if sizes is None or len(sizes) < 2:
        return None
    channels = sizes[1] if isinstance(sizes[1], int) else _channels_stored(region)
    try:
        trial = Trial(region, opsets, shapes)
    except Refuse:
        return None  # what can't be computed here is not known to be a norm
    # Large sizes are looked at only once it is a norm on small ones, unless it is written for these sizes alone.
    elements = math.prod(next(true_shapes(sizes, channels)))
    small = small_shapes(sizes, channels, elements) if elements > _FEW_ELEMENTS else iter(())
    refusal: Refuse | None = None
    for shapes_tried in (small, true_shapes(sizes, channels)):
        tried = working_shapes(trial, shapes_tried, draw, _WANTED)
        if not tried:
            continue
        try:
            return _read(region, trial, sizes, tried, opsets, shapes)
        except Refuse as found:
            refusal = refusal or found
    if refusal is not None:
        raise refusal
    return None


def _read(
    region: Region,
    trial: Trial,
    sizes: Sizes,
    tried: list[tuple[int, ...]],
    opsets: Mapping[str, int],
    shapes: Shapes,
) -> Reading | None:
    """The norm as it shows at the shapes `tried`, proven at those that the file says."""
    if not is_normalising(trial, tried[0]):
        return None
    if region.threshold is not None:
        raise Refuse(f"{label(region.threshold)} inside it compares with a constant")
    check_sizes(region, shapes)
    refused: list[Refuse] = []
    for extent in read_extents(trial, draw(tried[0])):
        try:
            reading = _read_over(extent, region, trial, sizes, tried)
        except OtherDivisor:
            raise
        except Refuse as refusal:
            refused.append(refusal)
            continue
        _check_replaceable(region, opsets)
        return reading
    # A bias that runs otherwise only says that it is not this one of two readings.
    raise next((each for each in refused if not each.reason.startswith(BIAS)), refused[0])


def _read_over(extent: Extent, region: Region, trial: Trial, sizes: Sizes, tried: list[tuple[int, ...]]) -> Reading:
    """The norm with these statistics."""
    if not all(isinstance(size, int) for size in (sizes[extent.first_axis :] if extent.first_axis else sizes[1:2])):
        raise Refuse("its number of channels is not stored in the file")
    fixed = _is_fixed(sizes, extent)
    allowed = working_shapes(trial, true_shapes(sizes, tried[0][1]), draw, 1 if fixed else 2)
    if not allowed:
        raise Refuse("it can't be computed at the sizes that the file says, or is too large to be proven there")
    runner: Runner = trial
    if extent.first_axis:
        runner = RowTrial(trial, extent, [*tried, *allowed])
        tried, allowed = ([extent.laid_out(shape) for shape in shapes] for shapes in (tried, allowed))
        # Other sizes of the last axes are another layer, which no file that stores them asks for.
        tried = [shape for shape in tried if shape[1] == allowed[0][1]] or allowed
    reading = read_statistic(read_divisor(runner, tried[0], extent), tried, allowed[0], numbers_in(region), fixed)
    prove(runner, reading, allowed if fixed else list(dict.fromkeys([*allowed, *tried])))
    if (uneven := uneven_step(region)) is not None:
        prove_places(runner, reading, min(tried, key=math.prod), f"{label(uneven)} stands before its statistic")
    return reading


def numbers_in(region: Region) -> list[int]:
    """The whole numbers that a region holds: what it takes the largest of, or cuts into, is among them."""
    found: set[int] = set()
    for node in region.nodes:
        found.add(len(node.outputs))
        for attribute in node.attributes.values():
            if attribute.type in (ir.AttributeType.INT, ir.AttributeType.INTS):
                found.update(np.atleast_1d(np.asarray(attribute.value, np.int64)).tolist())
        for value in (*node.inputs, *node.outputs):
            tensor = None if value is None else ir.convenience.get_const_tensor(value)
            if tensor is not None and tensor.size <= _MOST_NUMBERS and tensor.dtype in _WHOLE:
                found.update(int(number) for number in tensor.numpy().reshape(-1))
    return sorted(number for number in found if 1 <= number <= _GREATEST_NUMBER)[:_MOST_NUMBERS]


def _is_fixed(sizes: Sizes, extent: Extent) -> bool:
    """Whether the number of elements that a statistic reduces is the same at every run."""
    reduced = sizes[extent.first_axis or 2 :] if extent.scope.is_per_sample else (sizes[0], *sizes[2:])
    return all(isinstance(size, int) for size in reduced)


def _channels_stored(region: Region) -> int:
    """The length of the longest constant that runs along one axis: a scale has it, where there is one."""
    lengths = [1]
    for node in region.nodes:
        for value in node.inputs:
            tensor = None if value is None else ir.convenience.get_const_tensor(value)
            if tensor is not None and tensor.dtype.is_floating_point() and tensor.size in tensor.shape.numpy():
                lengths.append(int(tensor.size))
    longest = max(lengths)
    return longest if longest > 1 else 4


def _check_replaceable(region: Region, opsets: Mapping[str, int]) -> None:
    opset = opset_in(opsets)
    if opset < _LEAST_OPSET:
        raise Refuse(f"opset {opset} is older than {_LEAST_OPSET}; convert the file to a newer opset first")
    for value, reader in region.readers_outside():
        why = f"read by {label(reader)}" if reader is not None else "an output of the graph"
        raise Refuse(f"'{value.name}' inside it is also {why}")
