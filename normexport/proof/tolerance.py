"""When is a candidate as good as PyTorch? The one rule, with its derivation and the numbers it was chosen by.

Let r be the model in float64, b PyTorch itself at the candidate's precision and c the candidate; u is the unit
roundoff of that precision (2^-24 for float32). For the RMS and for the largest absolute error separately,

    error(c, r)  <=  FACTOR * spread(n) * error(b, r)  +  FLOOR * u * size(r),        size = RMS or max of |r|.

**Why relative to b.** Rounding errors grow with depth, width and cancellation by factors nobody can guess: measured
below, the relative error of honest float32 nets runs from 0.1 u to 1,600 u. b goes through the same growth, and a
candidate that only sums in another order or stores folded weights stays within a small factor of it.

**What b has to contain.** Four things are no fault of a candidate, and would be if b were free of them:
 - Inputs. Each stands for the values that round to it; the reference sees one of those in float64, both sides its
   rounding (`proof.inputs`). Otherwise (x - mean) at mean = 100 sigma is exact in PyTorch and A*x + B 100 u off.
 - Weights. A folded weight is rounded once, alike for all positions and samples, and pooling does not average that
   out as it does PyTorch's own errors. b runs with every weight moved by up to u (`runtime.baseline_weights`). Without
   it, honest folds of nets with mean = 100 sigma reached 42 times PyTorch's error; with it, 2.1.
 - Long sums. ONNX Runtime's average pool adds one number after the other, 41 u off at 224x224 where PyTorch's
   cascades are 1 u off. b adds plainly too (`runtime.baseline_arithmetic`). Without it, the ratio after pooling
   reached 14.
 - Sigmoids. ONNX Runtime's errs by a rounding of 1/2 where PyTorch's errs by one of the result. b rounds 1/2 as well.
   Without it, small channels of scores were 15 times, a GLU 34 times out of their budget.

**Measured** (ONNX Runtime 1.32 against PyTorch 2.13; 15 families of nets: 1 to 50 convolutions without and with
residuals, depthwise, means of 100 sigma, averages over 160x160, linears of 4,096 inputs, one output, two channels;
18 seeds, folded and lowered, batches 1, 2 and 7 at three input scales: 540 checks, 25,000 tensors):

    error(c)/error(b), RMS, 16 elements or more:    median 0.5 to 1.1, 99 % at most 1.5, largest 2.7
    the rule's left side / its right:               0.4 at most, 0.7 for one-output nets (10 elements)

Attention, recurrent, U-shaped and live-statistics nets and eight other activations stay below 0.3 as well. FLOOR
covers what PyTorch computes almost exactly and others need not: there the ratio reached 87 (a norm over 64 numbers
whose error happened to be 0.01 u).

**Sharp:** an epsilon beside the root instead of under it (5e-6 at sigma = 1), one channel of B off by 1e-3 or of A by
1e-4, an unscaled bias, float16 weights, a missing border correction all fail, at the norm where they are
(tests/parity/test_rule.py). What a net of 50 convolutions without residuals turns into 1,000 u of PyTorch's own error
is not visible there, to anyone in float32.

`spread(n)`: an error known from n elements only may be small by luck. The ratio of the RMS of two sets of n normal
numbers exceeds 6 with probability 2e-6 at n = 10, 2e-3 at n = 4 and 3e-2 at n = 2; with the factor growing as
sqrt(16 / n) below 16 elements that is 2e-7, 1e-4 and 3e-3. Outputs are pooled over all batches first. Where few of many
elements carry the error, n says too much: what is just out of its budget is judged by more baselines (`proof.luck`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from normexport.dtypes import FLOATS
from normexport.proof.metrics import Deviation

FACTOR = 6.0
FLOOR = 8.0
FEW = 16  # elements; see `spread`

# Relative error beyond which the yardstick is none. The worst honest nets measured: 1e-4 in float32, 0.34 % in float16
# and 2.4 % in bfloat16 (21 examples, each value rounded).
UNSTABLE = {"float64": 0.01, "float32": 0.01, "float16": 0.02, "bfloat16": 0.1}

# A channel is judged on few numbers, beside thousands of others: only what is far out counts.
CHANNEL_FACTOR = 8.0

# Integer outputs (argmax, class numbers) flip where two candidates tie to within the error: with relative errors of
# 1e-6 that is one element in about 1e6, in nets with means of 100 sigma one in 1e4.
FLIPS = 1e-4


@dataclass(frozen=True)
class Budget:
    """Largest errors allowed for one tensor, in its own unit. Integer tensors: `rms` is the share of flips."""

    rms: float
    max_abs: float

    def excess(self, errors: Deviation) -> float:
        """How far `errors` use the budget: at most 1 is good, NaN and infinity never are."""
        return max(_share(errors.rms, self.rms), _share(errors.max_abs, self.max_abs))


def budget(tensor: Deviation, rms: float, max_abs: float, samples: int, precision: str) -> Budget:
    """The budget of a tensor.

    Args:
        tensor: gives the scale (only `scale_rms`, `scale_max` and `floating` are read).
        rms, max_abs: PyTorch's errors at this precision (the baseline's), in the tensor's unit.
        samples: elements that those were measured on.
        precision: a key of `normexport.dtypes.FLOATS`.
    """
    factor = FACTOR * spread(samples)
    if not tensor.floating:
        return Budget(factor * rms + FLIPS, float("inf"))
    floor = FLOOR * FLOATS[precision].unit_roundoff
    # Below the normal range the spacing of numbers shrinks no further, and a roundoff is one of this size.
    least = FLOATS[precision].smallest_normal if tensor.scale_max > 0.0 else 0.0
    scale_rms, scale_max = max(tensor.scale_rms, least), max(tensor.scale_max, least)
    return Budget(factor * rms + floor * scale_rms, factor * max_abs + floor * scale_max)


def channel_budget(samples: int, scale: float, tensor_scale: float, baseline: float, precision: str) -> Budget:
    """The budget of one channel of an output: `CHANNEL_FACTOR` times what it would have as a tensor of its own.

    Args:
        samples: elements of the channel, over all batches.
        scale, tensor_scale: RMS of the channel, and of the output's largest channel.
        baseline: RMS of PyTorch's error there.
        precision: a key of `normexport.dtypes.FLOATS`.
    """
    least = FLOATS[precision].smallest_normal if tensor_scale > 0.0 else 0.0
    floor = FLOOR * FLOATS[precision].unit_roundoff * max(scale, least)
    return Budget(CHANNEL_FACTOR * (FACTOR * spread(samples) * baseline + floor), float("inf"))


def unstable(precision: str) -> float:
    """The share of an output beyond which an error of the yardstick itself makes it none."""
    return UNSTABLE[precision]


def spread(samples: int) -> float:
    """sqrt(16 / n) below 16 elements, else 1."""
    return max(1.0, math.sqrt(FEW / max(samples, 1)))


def _share(error: float, allowed: float) -> float:
    if error == 0.0 or allowed == float("inf"):
        return 0.0
    return error / allowed if allowed > 0.0 else float("inf")
