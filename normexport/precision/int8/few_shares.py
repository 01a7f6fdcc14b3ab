"""Which of several models is better where shares are few: what a softmax or sigmoid made, and saturated.

A share p that is nearly 0 or 1 hardly moves, whatever its logit does: dp = p (1 - p) dz. Of few samples the SNR of
shares hangs on the one or two that are undecided, and ranks models by chance: of 16 images of `open-nsfw`, all of them
sure, rounding weights gave 8.6 dB, and of 96 others it took 4.8. Log-odds

    z = log(p / (1 - p))        of a softmax of two classes, and of a sigmoid, the logits themselves

say of every sample how far off it is, and weigh those that are sure as much as the others; so both count. Shares are
taken between 1e-6 and its complement: beyond that nobody reads them.

How many numbers the SNR of shares hangs on: with g = p (1 - p), the size of (sum g)^2 / (sum g^2) of float32's.
"""

from __future__ import annotations

import math

import numpy as np

from normexport.precision.int8.weights import Float64s
from normexport.precision.snr import measure_output
from normexport.runtime import Array

#: Numbers that shares hang on, with fewer of which their log-odds decide: two for each row of a softmax that is
#: undecided. 16 images have 10 to 31 in classifiers; 16 lines of text, of 20 characters each, 190.
FEW = 64.0
_LEAST = 1e-6


def log_odds(shares: Array) -> Float64s:
    """log(p / (1 - p)) of each, in float64; NaN stays NaN."""
    wide = np.clip(shares.astype(np.float64), _LEAST, 1 - _LEAST)
    found: Float64s = np.log(wide) - np.log1p(-wide)
    return found


def hang_on(shares: Array) -> float:
    """How many numbers the error of shares is mostly made by, were all their logits off alike."""
    wide = shares.astype(np.float64)
    weights = wide * (1 - wide)
    square = float(np.square(weights).sum())
    return float(weights.sum()) ** 2 / square if square else 0.0


def level_of_shares(exact: Array, found: Array, level: float) -> float:
    """The level in dB of shares against float32's, of the same shape: where they are few, with that of their log-odds.

    It is the mean of the two. By the log-odds alone a classifier of text lines had 1.9 dB less in its shares than by
    these alone, and 1.5 more in the log-odds; by both it has more in both, 0.2 and 0.7.

    Args:
        level: that of the shares themselves.
    """
    if hang_on(exact) >= FEW:
        return level
    by_odds = measure_output("", log_odds(exact), log_odds(found), -math.inf).level
    return (by_odds + level) / 2
