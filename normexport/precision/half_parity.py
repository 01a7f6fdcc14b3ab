"""The parity rule for half precision: error against float64, relative to PyTorch's own error in that half type.

The candidate is computed as its file says, each half-precision value rounded once from float32
(`passes.fp16_round`): ONNX Runtime's CPU by itself computes such files in float32. Where PyTorch in the half type
overflows it is no measure; then the rule's floor alone is the budget (8 unit roundoffs: 48 dB in float16).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from normexport.onnx_export import InputSpec, Layer
from normexport.parity import ParityReport, check, standard_batches
from normexport.parity.inputs import Batch, integer_highs
from normexport.parity.judge import JITTER
from normexport.passes.fp16_round import rounding_in_float32
from normexport.runtime import Array, Feeds, OnnxRuntime, Port, Runtime, Sink
from normexport.verdicts import Verdict

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram


class InFloat32:
    """A runtime whose floating results are handed out as float32: half types differ from it in rounding alone."""

    def __init__(self, inner: Runtime, name: str = "") -> None:
        self._inner = inner
        self.name = name or inner.name
        self.inputs: tuple[Port, ...] = inner.inputs
        self.input_names, self.output_names = inner.input_names, inner.output_names
        self.passive_capture = inner.passive_capture
        self.dropped: Mapping[str, str] = {}

    def run(self, feeds: Feeds, capture: Collection[str] = (), sink: Sink | None = None) -> dict[str, Array]:
        """As the inner runtime's."""
        widened = None if sink is None else lambda name, value: sink(name, _wide(value))
        values = self._inner.run(feeds, capture, widened)
        self.dropped = self._inner.dropped
        return {name: _wide(value) for name, value in values.items()}


class _Remembered:
    """A runtime that computes the outputs of one set of inputs once; capturing runs are not remembered."""

    def __init__(self, inner: Runtime, known: dict[int, dict[str, Array]]) -> None:
        self._inner, self._known = inner, known
        self.name, self.inputs = inner.name, inner.inputs
        self.input_names, self.output_names = inner.input_names, inner.output_names
        self.passive_capture = inner.passive_capture
        self.dropped: Mapping[str, str] = {}

    def run(self, feeds: Feeds, capture: Collection[str] = (), sink: Sink | None = None) -> dict[str, Array]:
        if capture:
            values = self._inner.run(feeds, capture, sink)
            self.dropped = self._inner.dropped
            return values
        if id(feeds) not in self._known:
            self._known[id(feeds)] = self._inner.run(feeds)
        return self._known[id(feeds)]


class HalfParity:
    """Judges any number of half-precision candidates of one torch model; the model itself runs once per batch.

    Args:
        model: the torch model; reference in float64 and baseline in the half type.
        inputs: what it reads.
        dtype: "float16" or "bfloat16".
        like: an ONNX model of it, for the range of integer inputs.
        data, sizes: as in `normexport.parity.check_model`.
    """

    def __init__(
        self,
        model: nn.Module | ExportedProgram,
        inputs: Sequence[InputSpec],
        dtype: str,
        like: ir.Model,
        data: Mapping[str, Array] | None = None,
        sizes: Sequence[int] | None = None,
    ) -> None:
        self._model, self._inputs, self._dtype = model, inputs, dtype
        self._outputs = [str(value.name) for value in like.graph.outputs]
        self.batches: tuple[Batch, ...] = standard_batches(inputs, data, sizes=sizes, highs=integer_highs(like))
        self._exact: dict[int, dict[str, Array]] = {}
        self._own: dict[int, dict[str, Array]] = {}

    def accepts(self, emulated: ir.Model) -> bool:
        """Whether the outputs of a model that rounds in float32 are within the budget, be that proof or not."""
        return self._report(emulated, ()).judgement.verdict is not Verdict.FAILED

    def report(self, candidate: ir.Model, layers: Sequence[Layer] = ()) -> ParityReport:
        """The judgement of a half-precision model, outputs and module boundaries."""
        return self._report(rounding_in_float32(candidate), layers)

    def _report(self, emulated: ir.Model, layers: Sequence[Layer]) -> ParityReport:
        from normexport.runtime import TorchRuntime

        def torch_runtime(dtype: str, jitter: int | None) -> Runtime:
            return TorchRuntime(self._model, self._inputs, self._outputs, dtype, layers, jitter)

        name = f"ONNX Runtime, rounded to {self._dtype}"
        return check(
            lambda: _Remembered(torch_runtime("float64", None), self._exact),
            lambda: _Remembered(InFloat32(torch_runtime(self._dtype, JITTER)), self._own),
            lambda: InFloat32(OnnxRuntime(emulated), name),
            self.batches,
            layers,
            precision=self._dtype,
        )


def _wide(value: Array) -> Array:
    return value.astype(np.float32) if value.dtype.kind == "f" and value.dtype != np.float64 else value
