"""Whether what recognition made of a model is right, as ONNX Runtime computes both."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from normexport import norms
from normexport.recognition import fold_recognised
from tests.narrow import present
from tests.recognition.near_misses import Made

#: Scale, bias, epsilon and constant are stored in float32 or read from what is: five roundings of 6e-8.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Judged:
    """Whether an operator took the place of the graph, by how much it then differs, and what was said."""

    replaced: bool
    error: float
    reasons: tuple[str, ...]


def judge(made: Made) -> Judged:
    """Recognise, and compare on inputs of many scales, means and batches; infinite where a channel is not a number."""
    result = fold_recognised(ir.from_proto(made.model), live_operators=True)
    reasons = tuple(outcome.reason for outcome in result.norms if outcome.kind not in ("chain", "batchnorm"))
    after = ir.to_proto(result.model)
    replaced = any(node.domain == norms.DOMAIN for node in after.graph.node)
    if not replaced:
        return Judged(False, 0.0, reasons)
    return Judged(True, difference(made.model, after, made.sizes, by_element="not counted" in made.miss), reasons)


def difference(
    before: onnx.ModelProto, after: onnx.ModelProto, sizes: tuple[int | None, ...], *, by_element: bool = False
) -> float:
    """The largest difference relative to the largest result of its channel.

    by_element: on `each_far` too, which tells of an element that does not count.
    """
    sessions = [_session(model) for model in (before, after)]
    name = before.graph.input[0].name
    worst = 0.0
    for x in [*inputs(sizes), *(each_far(sizes) if by_element else ())]:
        expected, got = (session.run(None, {name: x})[0] for session in sessions)
        assert expected.shape == got.shape
        across = tuple(axis for axis in range(expected.ndim) if axis != 1)
        size = np.abs(expected).max(axis=across)
        off = np.abs(got - expected).max(axis=across)
        assert np.isfinite(expected).all()
        worst = max(worst, float(np.nan_to_num(off[size > 0] / size[size > 0], nan=np.inf).max(initial=0.0)))
    return worst


def inputs(sizes: tuple[int | None, ...]) -> list[np.ndarray]:
    """Random inputs: normal and with outliers, of spreads from 1e-6 to 1e4, about zero and far from it."""
    rng = np.random.default_rng(99)
    found = []
    for batch in (sizes[0],) if sizes[0] is not None else (2, 4, 10):
        shape = (batch, *(present(size) for size in sizes[1:]))
        for spread in (1e-6, 1e-4, 1e-2, 1.0, 1e4):
            x = rng.standard_normal(shape)
            found += [spread * x, spread * (np.sign(x) * x**4 + 3)]
    return found


def each_far(sizes: tuple[int | None, ...]) -> Iterator[np.ndarray]:
    """One input for each element, in which it is far from the others."""
    shape = (sizes[0] or 2, *(present(size) for size in sizes[1:]))
    rng = np.random.default_rng(98)
    for place in range(math.prod(shape)):
        x = rng.standard_normal(shape)
        x.flat[place] = 30 * (-1) ** place
        yield x


def _session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
