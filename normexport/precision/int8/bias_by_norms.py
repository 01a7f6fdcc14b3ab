"""What rounding a layer's weight takes from the mean of each channel of its result, for inputs as the norms tell them.

With E x_k the mean of an input channel as its spread has it (`propagate`), w' the rounded weight, the error of channel
c is

    e_c = sum over input channels k and taps t of  a_t (w_ckt - w'_ckt) E x_k

and is added to the bias: the analytic correction of Nagel et al. 2019, section 4.2, which needs no samples. a_t is the
share of places at which tap t lies on the input rather than on its padding. As by samples layer by layer
(`bias_by_layer`), nothing of what other layers do is taken in.

What rounding and cutting off the input itself does to means hangs on tails that the norms do not tell, and is left out.

An error below `_WORTH` deviations of the result, the root of the mean square over channels, is left alone: int8's own
steps are 0.05 wide there, and what such an error does to an output is chance. Of eleven networks of digits with all of
them corrected two lose 2.7 and 4.1 dB and nine gain 0.2 to 2.5; none has an error that is worth it. EfficientNet-Lite0,
whose depthwise kernels have nine weights each, has 15.4 dB without data, 20.7 so, 21.3 with all, and 21.7 where 96
samples tell all means. Where data measures it (`edits_by_norms`), both are tried.

Left out: layers whose input no norm tells of, or by its bounds alone, inside which a spread says little.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from normexport.graphs.nodes import label, op
from normexport.graphs.shapes import Shapes
from normexport.precision.int8.corrections import Pair, why_no_shift
from normexport.precision.int8.propagate import Tensor
from normexport.precision.int8.spreads import Spread
from normexport.precision.int8.weights import Float64s, by_group, stored

_WORTH = 0.007


def why_no_mean(pair: Pair, tensors: Mapping[str, Tensor]) -> str:
    """Why the mean errors of a layer are not known by norms; "" where they are."""
    tensor = tensors.get(pair.read)
    if tensor is None or tensor.origin == "bound":
        return f"no norm tells the mean of what {label(pair.node)} reads"
    return why_no_shift(pair.node)


def mean_errors_by_norms(
    shapes: Shapes, pairs: Iterable[Pair], tensors: Mapping[str, Tensor], *, worth: float = _WORTH
) -> dict[str, Float64s]:
    """e (C,) of each layer of which it is known, by the name of its result.

    Args:
        shapes: of the float32 model that `pairs` are layers of.
        tensors: how its tensors are spread, by name.
        worth: deviations of a layer's result, below which its error is left alone.
    """
    found = {}
    for pair in pairs:
        if why_no_mean(pair, tensors):
            continue
        exact, rounded = stored(pair.node.inputs[1]), by_group(pair.node, pair.rounded_weight)
        weight = None if exact is None else by_group(pair.node, exact)
        if weight is None or rounded is None:
            continue
        means = _means(tensors[pair.read].spread, weight.shape[0], weight.shape[2])
        error: Float64s = np.einsum("goit,gi,t->go", weight - rounded, means, inside_shares(pair, shapes)).reshape(-1)
        if np.isfinite(error).all() and _is_worth_it(error, tensors.get(pair.result), worth):
            found[pair.result] = error
    return found


def _is_worth_it(error: Float64s, result: Tensor | None, worth: float) -> bool:
    if result is None:
        return True
    return float(np.square(error).mean()) > worth**2 * float(result.spread.variance.mean())


def _means(spread: Spread, groups: int, inputs: int) -> Float64s:
    """(groups, inputs): of each channel that is read; of a spread with other channels, that of all together."""
    known = spread if spread.axis == 1 and spread.channels == groups * inputs else spread.mixed()
    return np.broadcast_to(known.mean, groups * inputs).reshape(groups, inputs)


def inside_shares(pair: Pair, shapes: Shapes) -> Float64s:
    """(taps,): the share of a layer's places at which each tap of its kernel lies on the input.

    Of a transposed convolution each place has one of as many taps as there are strides. Where sizes are not known: 1.
    """
    node = pair.node
    kernel = pair.whole.shape[2:] if op(node) in ("Conv", "ConvTranspose") else ()
    taps = math.prod(kernel)
    if op(node) == "ConvTranspose":
        return np.full(taps, 1 / math.prod(node.attributes.get_ints("strides", (1,))))
    source = node.inputs[0]
    sizes = (shapes.of(source) if source is not None else None) or ()
    results = shapes.of(node.outputs[0]) or ()
    known = len(sizes) == len(results) == len(kernel) + 2
    if not known or node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return np.ones(taps)
    ones = (1,) * len(kernel)
    steps, gaps = node.attributes.get_ints("strides", ones), node.attributes.get_ints("dilations", ones)
    pads = node.attributes.get_ints("pads", (0,) * len(kernel))
    shares: Float64s = np.ones(())
    for axis, width in enumerate(kernel):
        size, places = sizes[2 + axis], results[2 + axis]
        if not size or not places:
            share = np.ones(width)
        else:
            at = np.arange(places)[:, None] * steps[axis] + np.arange(width) * gaps[axis] - pads[axis]
            share = ((at >= 0) & (at < size)).mean(axis=0)
        shares = shares[..., None] * share
    return shares.reshape(taps)
