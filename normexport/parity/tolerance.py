"""When is a candidate as good as PyTorch? The one rule, with its derivation and the numbers it was chosen by.

Let r be the model in float64, b PyTorch itself at the candidate's precision and c the candidate; u is the unit
roundoff of that precision (2^-24 for float32). For the RMS and for the largest absolute error separately,

    error(c, r)  <=  FACTOR * spread(n) * error(b, r)  +  FLOOR * u * size(r),        size = RMS or max of |r|.

**Why relative to b.** Rounding errors grow with depth, width and cancellation by factors nobody can guess: measured
below, the relative error of honest float32 nets runs from 0.1 u to 1,600 u. b goes through the same growth, and a
candidate that only sums in another order or stores folded weights stays within a small factor of it.

**What b has to contain.** Two things are no fault of a candidate, and would be if b were free of them:
 - Inputs. Each stands for the values that round to it; the reference sees one of those in float64, both sides its
   rounding (`parity.inputs`). Otherwise (x - mean) at mean = 100 sigma is exact in PyTorch and A*x + B 100 u off.
 - Weights. A folded weight is rounded once, alike for all positions and samples, and pooling does not average that
   out as it does PyTorch's own errors. b therefore runs with every weight moved by up to u (`jitter` of the
   runtimes). Without it, honest folds of nets with mean = 100 sigma reached 42 times PyTorch's error; with it, 2.8.

**Measured** (12 families: 1 to 50 convolutions without and with residuals, depthwise, means of 100 sigma, linears of
up to 4,096 inputs, one-output and two-channel nets; 5 seeds, batches 1, 2, 7 at three input scales; folded and
lowered candidates on ONNX Runtime 1.32 against PyTorch 2.13; 12,000 tensors):

    ratio error(c)/error(b), RMS:    median 0.6 to 1.4, 99 % at most 4.5 for tensors of 16 elements or more
    largest such ratio:              9.5 (depthwise, after the pooling; its error itself is 17 u), max error 12
    the rule's left side / right:    0.68 (RMS) and 0.50 (max) at most, with the constants below

FLOOR covers what PyTorch computes almost exactly and others need not: ONNX Runtime adds up a global average pool in
few long sums, 5 u off at 112x112 and 10 u at 224x224, where PyTorch is 1 u off.

`spread(n)`: an error known from n elements only may be small by luck. The ratio of the RMS of two sets of n normal
numbers exceeds 8 with probability 1e-7 at n = 10, 7e-4 at n = 4 and 2e-2 at n = 2; with the factor growing as
sqrt(16 / n) below 16 elements that is 1e-8, 5e-5 and 2e-3. Outputs are pooled over all batches first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from normexport.parity.metrics import Errors

FACTOR = 8.0
FLOOR = 8.0
FEW = 16  # elements; see `spread`

UNIT_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}

# Integer outputs (argmax, class numbers) flip where two candidates tie to within the error: with relative errors of
# 1e-6 that is one element in about 1e6, in nets with means of 100 sigma one in 1e4.
FLIPS = 1e-4


@dataclass(frozen=True)
class Budget:
    """Largest errors allowed for one tensor, in its own unit. Integer tensors: `rms` is the share of flips."""

    rms: float
    max_abs: float

    def excess(self, errors: Errors) -> float:
        """How far `errors` use the budget: at most 1 is good, NaN and infinity never are."""
        return max(_share(errors.rms, self.rms), _share(errors.max_abs, self.max_abs))


def budget(tensor: Errors, rms: float, max_abs: float, samples: int, precision: str) -> Budget:
    """The budget of a tensor.

    Args:
        tensor: gives the scale (only `scale_rms`, `scale_max` and `floating` are read).
        rms, max_abs: PyTorch's errors at this precision (the baseline's), in the tensor's unit.
        samples: elements that those were measured on.
        precision: a key of `UNIT_ROUNDOFF`.
    """
    factor = FACTOR * spread(samples)
    if not tensor.floating:
        return Budget(factor * rms + FLIPS, float("inf"))
    floor = FLOOR * UNIT_ROUNDOFF[precision]
    return Budget(factor * rms + floor * tensor.scale_rms, factor * max_abs + floor * tensor.scale_max)


def spread(samples: int) -> float:
    """sqrt(16 / n) below 16 elements, else 1."""
    return max(1.0, math.sqrt(FEW / max(samples, 1)))


def _share(error: float, allowed: float) -> float:
    if error == 0.0 or allowed == float("inf"):
        return 0.0
    return error / allowed if allowed > 0.0 else float("inf")
