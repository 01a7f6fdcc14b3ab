"""How good an int8 model is, on samples that judge: its accuracy against float32, and the SNR of its worst output."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import onnx_ir as ir

from normexport.precision.accuracy import Accuracy, measure_accuracy
from normexport.precision.collected import Collected, collect
from normexport.precision.config import Limits
from normexport.precision.decisions import shares_in
from normexport.precision.int8.few_shares import level_of_shares
from normexport.precision.int8.remainder import as_written
from normexport.precision.labels import Labelled
from normexport.precision.output_errors import output_errors
from normexport.precision.runs import Data, Stream
from normexport.precision.snr import OutputError
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


def level_on(model: ir.Model, data: Data, threads: int | None = None) -> Callable[[ir.Model], float]:
    """What tells which of several models like this one is better: the level in dB of the worst output on these samples.

    That is its SNR. Of shares (`shares_in`) it is that of the whole. Channels are looked at by themselves since their
    scales may differ, which those of shares do not: of 18,710 characters most are at 1e-7 throughout, and the worst of
    them says by how much the wildest error is larger than that, -39 to -12 dB where the whole had 3 to 10.

    Of shares that hang on few numbers (`level_of_shares`) it is that of their log-odds.
    """
    exact, shares = collect(OnnxRuntime(model, threads=threads), data, model=model), shares_in(model)

    def level(candidate: ir.Model) -> float:
        release_memory()
        found = collect(OnnxRuntime(candidate, threads=threads), data, model=candidate, batch=exact.batch)
        axes = {name: each for name, each in found.axes.items() if name not in shares}
        errors = output_errors(exact, replace(found, axes=axes), -math.inf, 100)
        return min((_level(error, exact, found, shares) for error in errors), default=math.inf)

    return level


def _level(error: OutputError, exact: Collected, found: Collected, shares: Collection[str]) -> float:
    if error.name not in shares or error.snr_db is None:
        return error.level
    return level_of_shares(exact.values[error.name], found.values[error.name], error.level)


def _worst(exact: Collected, found: Collected) -> float:
    return min((error.level for error in output_errors(exact, found, -math.inf, 100)), default=math.inf)
