"""How good an int8 model is, on samples that judge: its accuracy against float32, and the SNR of its worst output."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from normexport.precision.accuracy import Accuracy, measure_accuracy
from normexport.precision.collected import Collected, collect
from normexport.precision.config import Limits
from normexport.precision.int8.remainder import as_written
from normexport.precision.labels import Labelled
from normexport.precision.output_errors import output_errors
from normexport.precision.runs import Data, Stream
from normexport.runtime import OnnxRuntime, Runtime, release_memory
from normexport.verdicts import Verdict

#: dB beyond the limit that a half remainder has to keep by itself: its noise is a tenth of what the limit allows.
_SPARE = 10.0


@dataclass(frozen=True)
class Judging:
    """Judges models by what the float32 one gives.

    Attributes:
        exact: what float32 gives on `data`.
    """

    data: Stream
    labelled: Labelled | None
    limits: Limits
    exact: Collected

    @classmethod
    def by(cls, model: ir.Model, data: Stream, labelled: Labelled | None, limits: Limits) -> Judging:
        """By this float32 model."""
        return cls(data, labelled, limits, collect(OnnxRuntime(model), data, model=model))

    def measure(self, candidate: ir.Model, runtime: Runtime) -> Accuracy:
        """All that is reported of a candidate as the runtime runs it."""
        found = collect(runtime, self.data, model=candidate, batch=self.exact.batch)
        return measure_accuracy(found, self.labelled, self.exact, self.limits)

    def judge(self, candidate: ir.Model, runtime: Runtime) -> tuple[float, float | None, bool]:
        """SNR in dB, points of accuracy lost, and whether that is within the limits."""
        found = self.measure(candidate, runtime)
        assert found.snr_db is not None
        assert found.judgement is not None
        return found.snr_db, found.drop, found.judgement.verdict is not Verdict.FAILED

    def accepts(self, half: ir.Model) -> bool:
        """Whether a model in a half type is so good that int8 may take all that the limit allows."""
        held = as_written(half)
        found = collect(OnnxRuntime(held), self.data, model=held, batch=self.exact.batch)
        return _worst(self.exact, found) >= self.limits.min_snr + _SPARE


def level_on(model: ir.Model, data: Data) -> Callable[[ir.Model], float]:
    """The SNR in dB of the worst output of a model like this one, on these samples."""
    exact = collect(OnnxRuntime(model), data, model=model)

    def level(candidate: ir.Model) -> float:
        release_memory()
        return _worst(exact, collect(OnnxRuntime(candidate), data, model=candidate, batch=exact.batch))

    return level


def _worst(exact: Collected, found: Collected) -> float:
    return min((error.level for error in output_errors(exact, found, -math.inf, 100)), default=math.inf)
