"""Which way each weight of a layer is rounded, so that the layer's result on samples is off by the least squares.

To nearest is best for each weight alone. A row w of a layer's weight that reads x gives an error (w - w') . x, of mean
square (w - w') H (w - w')' with H the covariance of x over samples and places (about the mean where the bias takes
the mean error, `bias_correction`; else about zero). Weights are rounded one after the other, those that matter most
first, and what rounding one costs is made good by those still to come, by the least squares of H (GPTQ, Frantar et al.
2022, which is the optimal brain surgeon of one layer):

    U'U = inverse(H),  U upper triangular
    q_j = round(w_j),  w_k += -(w_j - q_j) U_jk / U_jj   for k > j

Weights stay on the grid that they have. A row keeps what rounding to nearest gives where that is better. Deterministic;
K^3 operations for K weights a row and as many numbers for H: 4608 of a ResNet-50's largest convolution are 170 MB.
"""

from __future__ import annotations

import numpy as np

from normexport.precision.int8.weights import Float64s

LEVEL = 127.0  # the largest whole number of a weight, both signs
_DAMPING = 0.01  # of the mean variance, added to each: samples tell nothing of directions they do not have
_BLOCK = 64  # weights whose corrections to those behind are made in one product


def round_by_least_squares(weight: Float64s, moments: Float64s) -> Float64s:
    """Whole numbers for weights in units of their grid.

    Args:
        weight: (groups, rows, K), w / scale.
        moments: (groups, K, K), the covariance of what the rows of each group read.

    Returns:
        (groups, rows, K): whole numbers from -127 to 127.
    """
    groups = len(weight)
    damped = _damped(moments)
    order = np.argsort(-np.einsum("gkk->gk", damped), axis=1, kind="stable")
    inner = np.take_along_axis(np.take_along_axis(damped, order[:, :, None], 1), order[:, None, :], 2)
    upper = np.linalg.cholesky(np.linalg.inv(inner)).swapaxes(1, 2)
    left = np.take_along_axis(weight, order[:, None, :], axis=2).copy()
    whole = np.empty_like(left)
    columns = left.shape[2]
    for start in range(0, columns, _BLOCK):
        stop = min(start + _BLOCK, columns)
        errors = np.empty((groups, left.shape[1], stop - start))
        for column in range(start, stop):
            whole[:, :, column] = _nearest(left[:, :, column])
            error = (left[:, :, column] - whole[:, :, column]) / upper[:, None, column, column]
            left[:, :, column:stop] -= error[:, :, None] * upper[:, None, column, column:stop]
            errors[:, :, column - start] = error
        left[:, :, stop:] -= errors @ upper[:, start:stop, stop:]
    found = np.empty_like(whole)
    np.put_along_axis(found, order[:, None, :], whole, axis=2)
    nearest = _nearest(weight)
    better = square_errors(weight - found, damped) < square_errors(weight - nearest, damped)
    return np.where(better[:, :, None], found, nearest)


def square_errors(errors: Float64s, moments: Float64s) -> Float64s:
    """The mean square of what each row's errors, (groups, rows, K), do to its result: (groups, rows)."""
    found: Float64s = ((errors @ moments) * errors).sum(axis=2)
    return found


def _nearest(weight: Float64s) -> Float64s:
    found: Float64s = np.clip(np.rint(weight), -LEVEL, LEVEL)
    return found


def _damped(moments: Float64s) -> Float64s:
    """With enough on the diagonal to be inverted; a group that reads nothing but zeros gets the unit matrix."""
    size = moments.shape[-1]
    mean = np.einsum("gkk->g", moments) / size
    eye: Float64s = np.where(mean > 0, _DAMPING * mean, 1.0)[:, None, None] * np.eye(size)
    return moments + eye
