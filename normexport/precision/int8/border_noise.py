"""Which of a model's tensors make the noise of int8, each measured with nothing else in eight bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

import numpy as np
import onnx_ir as ir

from normexport.precision.int8.activations import Activations
from normexport.precision.int8.additions import Additions
from normexport.precision.int8.ranges import Range, int8_range
from normexport.progress import counted

#: Of the noise that tensors make one by one, what the others may make.
REST = 0.01


def noisiest(
    model: ir.Model,
    ranges: Mapping[str, Range],
    names: Collection[str],
    level: Callable[[ir.Model], float],
    how: Activations,
) -> frozenset[str]:
    """The fewest of these tensors without which the rest make a hundredth (`REST`) of the noise of all.

    Noise is 10^(-level / 10), of which a sum is that of errors that have nothing to do with each other.

    Args:
        model: float32.
        ranges: by tensor, what eight bits stand for.
        level: SNR in dB of the worst output of a model.
        how: how they are stored.
    """
    noise = {
        name: 10 ** (-level(_with_pair(model, name, ranges[name], how)) / 10)
        for name in counted("measuring tensors", sorted(set(names) & set(ranges)))
    }
    left = sum(each for each in noise.values() if math.isfinite(each))
    most, found = REST * left, set[str]()
    for name in sorted(noise, key=lambda each: (-noise[each], each)):
        if left <= most:
            break
        found.add(name)
        left -= noise[name] if math.isfinite(noise[name]) else 0.0
    return frozenset(found)


def _with_pair(model: ir.Model, name: str, limits: Range, how: Activations) -> ir.Model:
    """A copy that holds one tensor in eight bits, for whoever reads it."""
    copy = model.clone()
    value = next(each for node in copy.graph for each in node.outputs if each.name == name)
    additions, uses, maker = Additions(copy.graph), list(value.uses()), value.producer()
    assert maker is not None
    scale, zero = how.linear(int8_range(limits, how.symmetric))
    numbers = np.asarray(scale, np.float32), np.asarray(zero, how.dtype.numpy())
    constants = [additions.constant(f"{name}_{word}", each) for word, each in zip(("s", "z"), numbers, strict=True)]
    quantise = additions.node("QuantizeLinear", [value, *constants], value, how.dtype)
    back = additions.node("DequantizeLinear", [quantise.outputs[0], *constants], value, ir.DataType.FLOAT)
    copy.graph.insert_after(maker, [quantise, back])
    for use in uses:
        use.node.replace_input_with(use.idx, back.outputs[0])
    return copy
