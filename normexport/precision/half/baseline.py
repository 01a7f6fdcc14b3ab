"""The parity rule for half precision: error against float64, relative to that of the float32 graph when it is rounded.

The yardstick ("baseline") is the float32 graph that the candidate was made from, computed in float64 with every value
rounded to the type in which the file stores it (`runtime.float64`), weights moved by up to a roundoff of theirs before
(`runtime.baseline_weights`). Of the candidate it takes the types alone, so that a wrong candidate has no part in it. It
asks nothing of PyTorch, which runs many networks in no half type on a CPU (masks of -1e9, `.float()` in a forward,
one_hot, Fourier transforms), and it knows what is kept in float32, so that the budget shrinks with every module kept.

Where the yardstick overflows, or is off by more than `FAR_OFF`, it is no measure: more modules are kept in float32.

Measured: error(candidate) / error(yardstick), RMS, outputs and module boundaries of 16 elements or more. The 21
example networks, 330 tensors a type: median 0.68 in float16 and 0.70 in bfloat16, 99 % at most 1.2, largest 2.1 and
1.2; at most 0.25 of the budget is used. 21 networks of masks, casts, one_hot, positions and transforms: largest 1.7.

The candidate is computed as its file says, each half-precision value rounded once from float32
(`rounding`): ONNX Runtime's CPU by itself computes such files in float32.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from normexport.dtypes import FLOAT64, HALVES, of_onnx
from normexport.graphs.shapes import Shapes
from normexport.onnx_export import InputSpec, Layer
from normexport.precision.chosen import AsScores, choices_of
from normexport.precision.half.rounding import rounding_in_float32
from normexport.precision.half.search import Halved
from normexport.proof import Batch, ParityReport, Row, check, choose_batches
from normexport.proof.judge import JITTER, fixed_outputs
from normexport.proof.tolerance import FEW
from normexport.runtime import Array, Feeds, Float64Runtime, OnnxRuntime, Opener, Runtime, Sink, release_memory
from normexport.runtime.around import Around, Converted, in_float32
from normexport.runtime.baseline_weights import jitter_model
from normexport.runtime.exact import Reference, exact_runtime
from normexport.verdicts import Verdict

# Error of the yardstick, in roundoffs, beyond which more is kept in float32: 0.8 % of the output in float16, 6 % in
# bfloat16. The budget is six times that. The example networks' outputs are off by at most 7 and 6.
FAR_OFF = 16.0


class _Remembered(Around):
    """A runtime that computes the outputs of one set of inputs once; capturing runs are not remembered."""

    def __init__(self, inner: Runtime, known: dict[int, dict[str, Array]]) -> None:
        super().__init__(inner)
        self._known = known

    def run(self, feeds: Feeds, capture: Collection[str] = (), sink: Sink | None = None) -> dict[str, Array]:
        if capture:
            return super().run(feeds, capture, sink)
        if id(feeds) not in self._known:
            self._known[id(feeds)] = self.inner.run(feeds)
        return self._known[id(feeds)]


class AsStored(Converted):
    """The float32 graph of a model as a file would compute it that stores `halved` in a half type, the rest in float32.

    Takes and gives what such a file does: float32 arrays, where the graph has no float64.
    """

    def __init__(self, model: ir.Model, dtype: str, halved: Collection[str], exact: Collection[str] = ()) -> None:
        types = _types(model, dtype, halved)
        moved = jitter_model(model, JITTER, dict.fromkeys(halved, dtype))
        inner = Float64Runtime(moved, stored={name: kind for name, kind in types.items() if name not in exact})
        super().__init__(inner, self._narrow, f"{inner.name}, rounded to {dtype}")
        self.passive_capture = True
        self._single = frozenset(types)

    def run(self, feeds: Feeds, capture: Collection[str] = (), sink: Sink | None = None) -> dict[str, Array]:
        """The interpreter's values; those that the file keeps in float32 are rounded to it."""
        return super().run({name: self._narrow(name, value) for name, value in feeds.items()}, capture, sink)

    def _narrow(self, name: str, value: Array) -> Array:
        with np.errstate(over="ignore"):
            return value.astype(np.float32) if name in self._single and value.dtype.kind == "f" else value


class HalfParity:
    """Judges any number of half-precision candidates of one model; the reference runs once per batch.

    Args:
        source: the reference in float64, the torch or ONNX model that `model` came from; None: `model` itself.
        inputs: what it reads.
        dtype: "float16" or "bfloat16".
        model: the float32 ONNX model that the candidates are made from; the yardstick.
        data, sizes: as in `normexport.proof.check_model`.
        others: what else asks of its inputs something that is to be tried.

    Raises:
        FoldError: no float64 meaning is known for an operator of `model`.
    """

    def __init__(
        self,
        source: Reference | None,
        inputs: Sequence[InputSpec],
        dtype: str,
        model: ir.Model,
        data: Mapping[str, Array] | None = None,
        sizes: Sequence[int] | None = None,
        others: Sequence[ir.Model] = (),
    ) -> None:
        self._source, self._inputs, self._dtype, self._model = source, inputs, dtype, model
        self._outputs = [str(value.name) for value in model.graph.outputs]
        self._choices = choices_of(model)
        tried = choose_batches(
            inputs,
            data,
            sizes=sizes,
            graph=model,
            own=lambda: OnnxRuntime(model),
            exact=lambda: self._reference(()),
            compared=(model, *others),
        )
        self.batches: tuple[Batch, ...] = tried.batches
        self._notes = tried.notes
        self._exact: dict[int, dict[str, Array]] = {}

    def accepts(self, candidate: Halved) -> bool:
        """Whether the outputs are within a budget that means something, be that proof or not."""
        rows = self.report(candidate).outputs
        return all(row.within for row in rows) and _near(rows, self._dtype)

    def report(self, candidate: Halved, layers: Sequence[Layer] = (), on: Opener = OnnxRuntime) -> ParityReport:
        """The parity report of ONNX Runtime rounding as the file says, with module boundaries where `layers` are given.

        On another runtime the file itself is run, in the precision that it is set to, and must pass beside.

        Boundaries that hold the stand-in of a mask's number (`masks`) are not compared.
        """
        release_memory()
        name = f"ONNX Runtime, rounded to {self._dtype}"
        emulated = rounding_in_float32(candidate.model)
        rounded = self._report(candidate, emulated, layers, OnnxRuntime, name)
        for value in emulated.graph.initializers.values():
            value.const_value = None  # a graph is a cycle, and the next one comes before Python looks for such
        if on is OnnxRuntime or rounded.judgement.verdict is Verdict.FAILED:
            return rounded
        return self._report(candidate, candidate.model, layers, on)

    def _report(
        self, candidate: Halved, model: ir.Model, layers: Sequence[Layer], on: Opener, name: str = ""
    ) -> ParityReport:
        """The report of `model`, the candidate's or one that computes as it does, on a runtime."""
        layers = [layer for layer in layers if layer.tensor not in {*candidate.stand_ins, *self._choices}]
        theirs = choices_of(model, self._choices)
        report = check(
            lambda: _Remembered(self._reference(layers), self._exact),
            lambda: AsScores(AsStored(self._model, self._dtype, candidate.halved, candidate.stand_ins), self._choices),
            lambda: AsScores(in_float32(on(model), name), theirs),
            self.batches,
            layers,
            precision=self._dtype,
            fixed=fixed_outputs(self._model),
        )
        return replace(report, notes=(*self._notes, *report.notes))

    def _reference(self, layers: Sequence[Layer]) -> Runtime:
        if self._source is None or self._choices:  # torch does not say by which scores it chose
            return AsScores(Float64Runtime(self._model), self._choices)
        return exact_runtime(self._source, self._inputs, self._outputs, layers)


def _near(rows: Sequence[Row], dtype: str) -> bool:
    """Whether the yardstick's outputs are near the reference: each batch, or all together where one has few numbers."""
    for name in dict.fromkeys(row.tensor for row in rows):
        found = [row.baseline for row in rows if row.tensor == name and row.baseline and row.baseline.floating]
        error = math.sqrt(sum(each.size * each.rms**2 for each in found))
        size = math.sqrt(sum(each.size * each.scale_rms**2 for each in found))
        shares = [error / size if size else 0.0, *(each.relative_rms for each in found if each.size >= FEW)]
        if not max(shares) <= FAR_OFF * HALVES[dtype].unit_roundoff:
            return False
    return True


def _types(model: ir.Model, dtype: str, halved: Collection[str]) -> dict[str, str]:
    """The type in which the file stores each floating tensor of the main graph, by name; float64 is left out."""
    shapes = Shapes(model)
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    values += [value for node in model.graph for value in node.outputs]
    own = {str(value.name): shapes.dtype(value) for value in values if value.name}
    kinds = {name: of_onnx(number) for name, number in own.items()}
    stored = {name: kind.name for name, kind in kinds.items() if kind is not None and kind is not FLOAT64}
    return {name: dtype if name in halved else kind for name, kind in stored.items()}
