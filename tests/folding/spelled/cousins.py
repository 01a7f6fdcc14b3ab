"""Cousins of a norm with running statistics, and spellings that stay: each is listed with its reason, or is no norm."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from tests.folding.case import weights
from tests.folding.spelled.rows import Net, Rows
from tests.folding.spellings import BETA, GAMMA, MEAN, VARIANCE, C

ROWS = Rows()
PASSES = "stands before the norm, and a map per channel does not pass through it"


# ---- statistics of their own, scale and shift per channel ----
def _frn(n: Net, y: str) -> str:
    square = n("ReduceMean", n("Mul", y, y), n.ints(2, 3))
    return n("Mul", y, n("Reciprocal", n("Sqrt", n("Add", square, n("Abs", n.const(np.full(C, 1e-3)))))))


@ROWS.stays(
    "stands before the norm, and is not a constant scale per channel",
    "Conv Mul ReduceMean Abs Add Sqrt Reciprocal Mul Mul Add Max",
)
def filter_response_normalisation_and_its_threshold(n: Net) -> str:
    y = n("Add", n("Mul", _frn(n, n.conv()), n.const(GAMMA)), n.const(BETA))
    return n("Max", y, n.const(MEAN))


@ROWS.folds("Conv Mul ReduceMean Abs Add Sqrt Reciprocal Mul Conv")
def filter_response_normalisation_before_a_convolution(n: Net) -> str:
    y = n("Add", n("Mul", _frn(n, n.conv()), n.const(GAMMA)), n.const(BETA))
    return n("Conv", y, n.vector(weights(2, C, 2, 2)))


@ROWS.stays(PASSES, "Conv Mul Sigmoid Mul GlobalAveragePool Add Div Mul Add Relu")
def an_evonorm_cousin(n: Net) -> str:
    y = n.conv()
    gated = n("Mul", y, n("Sigmoid", n("Mul", y, n.const(VARIANCE))))
    spread = n("Add", n("GlobalAveragePool", gated), n.number(2.0))
    return n("Relu", n("Add", n("Mul", n("Div", gated, spread), n.const(GAMMA)), n.const(BETA)))


@ROWS.folds("Conv Sigmoid Mul Relu")
def an_evonorm_cousin_with_running_variance(n: Net) -> str:
    y = n("Add", n("Mul", n.conv(), n.const(VARIANCE)), n.const(BETA))
    return n("Relu", n("Mul", y, n("Sigmoid", y)))


@ROWS.stays("computes the statistics of each sample", "Conv InstanceNormalization Relu")
def instance_norm_of_each_sample(n: Net) -> str:
    return n("Relu", n("InstanceNormalization", n.conv(), n.vector(GAMMA), n.vector(BETA)))


@ROWS.stays("computes the statistics of each sample's groups", "Conv GroupNormalization", opset=21)
def group_norm(n: Net) -> str:
    return n("GroupNormalization", n.conv(), n.vector(GAMMA), n.vector(BETA), num_groups=2)


@ROWS.stays("computes the statistics of each sample's layer", "MatMul LayerNormalization Relu")
def layer_norm(n: Net) -> str:
    y = n("MatMul", n.x(2, 3, 5), n.vector(weights(5, C)))
    return n("Relu", n("LayerNormalization", y, n.vector(GAMMA), n.vector(BETA)))


@ROWS.stays("its epsilon stands inside the root", "Conv ReduceMean Sub Mul ReduceMean Add Sqrt Div Mul Add Relu")
def batch_norm_of_the_batch_at_hand(n: Net) -> str:
    y = n.conv()
    centred = n("Sub", y, n("ReduceMean", y, n.ints(0, 2, 3)))
    variance = n("ReduceMean", n("Mul", centred, centred), n.ints(0, 2, 3))
    y = n("Div", centred, n("Sqrt", n("Add", variance, n.number(1e-3))))
    return n("Relu", n("Add", n("Mul", y, n.const(GAMMA)), n.const(BETA)))


# ---- constants that are not evaluated ----
@ROWS.stays("comes from fake-quantisation", "Conv DequantizeLinear Mul Relu", dtype=np.float32)
def a_scale_behind_DequantizeLinear(n: Net) -> str:
    stored = n.whole(np.array([100, -20, 30, 50], np.int8).reshape(C, 1, 1))
    return n("Relu", n("Mul", n.conv(), n("DequantizeLinear", stored, n.number(0.01))))


@ROWS.stays("is computed at inference by SequenceAt", "SplitToSequence SequenceAt Conv Mul Relu")
def a_scale_cut_by_SplitToSequence(n: Net) -> str:
    parts = n("SplitToSequence", n.vector(np.stack([GAMMA, BETA]).reshape(2, C, 1, 1)), axis=0, keepdims=0)
    return n("Relu", n("Mul", n.conv(), n("SequenceAt", parts, n.whole(np.int64(0)))))


@ROWS.stays("hangs on the last digit", "Mul Floor Conv Mul Relu")
def a_scale_that_jumps_with_its_last_digit(n: Net) -> str:
    return n("Relu", n("Mul", n.conv(), n("Floor", n("Mul", n.const(GAMMA), n.number(10 / 3)))))


@ROWS.folds("Conv Mul Relu", silent="its scale is an input of the network")
def a_scale_that_the_caller_gives(n: Net) -> str:
    return n("Relu", n("Mul", n.conv(), n.b.input((C, 1, 1), "scale")))


@ROWS.stays("scale or shift is not a finite number", "Conv Mul Reciprocal Div Relu")
def a_divisor_of_zero(n: Net) -> str:
    scale = n.const(np.array([1.0, np.inf, 2.0, 0.5]))
    return n("Relu", n("Div", n("Mul", n.conv(), n.number(1.0)), n("Reciprocal", scale)))


# ---- what is no norm ----
def silent(name: str, make: Any, left: str, why: str, **more: Any) -> None:
    ROWS.add(name, make, left, silent=why, **more)


silent(
    "a constant divided by the tensor",
    lambda n: n("Relu", n("Div", n.const(GAMMA), n("Abs", n.conv()))),
    "Conv Abs Div Relu",
    "no scale and shift",
)
silent(
    "a power of the tensor per channel",
    lambda n: n("Relu", n("Pow", n("Abs", n.conv()), n.const(VARIANCE))),
    "Conv Abs Pow Relu",
    "no scale and shift",
)
silent("PRelu", lambda n: n("PRelu", n.conv(), n.const(GAMMA)), "Conv PRelu", "a nonlinearity")
silent("a threshold per channel", lambda n: n("Max", n.conv(), n.const(BETA)), "Conv Max", "a nonlinearity")
silent(
    "Where of a stored truth",
    lambda n: n("Where", n.whole(np.array(True)), n.conv(), n.number(0.0)),
    "Conv Where",
    "a choice, though always the same",
)
silent(
    "a bias for each position",
    lambda n: n("Relu", n("Add", n.conv(), n.vector(weights(C, 3, 3)))),
    "Conv Add Relu",
    "its numbers differ along three axes",
)
silent(
    "a scale for each position",
    lambda n: n("Relu", n("Mul", n.conv(), n.vector(weights(C, 3, 3)))),
    "Conv Mul Relu",
    "its numbers differ along three axes",
)
silent(
    "a scale for each sample and channel",
    lambda n: n("Relu", n("Mul", n.conv(), n.vector(weights(2, C, 1, 1)))),
    "Conv Mul Relu",
    "its numbers differ along two axes",
)
silent(
    "squeeze and excitation",
    lambda n: _excited(n),
    "Conv GlobalAveragePool Sigmoid Mul Relu",
    "its scale is computed from each sample",
)
silent(
    "a matrix of the channels",
    lambda n: n("Relu", n("MatMul", n("MatMul", n.x(3, 5), n.vector(weights(5, C))), n.vector(np.diag(GAMMA)))),
    "MatMul MatMul Relu",
    "a linear layer, into which norms fold",
)
silent(
    "a convolution of one channel each",
    lambda n: n("Relu", n("Conv", n.conv(), n.vector(GAMMA.reshape(C, 1, 1, 1)), n.vector(BETA), group=C)),
    "Conv Conv Relu",
    "a convolution, into which norms fold",
)
silent("softmax over the channels", lambda n: n("Softmax", n.conv(), axis=1), "Conv Softmax", "a nonlinearity")
silent(
    "local response normalisation", lambda n: n("LRN", n.conv(), size=3), "Conv LRN", "a nonlinearity", dtype=np.float32
)
silent(
    "a bias alone behind a nonlinearity",
    lambda n: n("Relu", n("Add", n("Tanh", n.conv()), n.const(BETA))),
    "Conv Tanh Add Relu",
    "a bias",
)
silent(
    "a scalar alone behind a nonlinearity",
    lambda n: n("Relu", n("Mul", n("Tanh", n.conv()), n.number(0.5))),
    "Conv Tanh Mul Relu",
    "arithmetic with one number",
)
silent(
    "bias and scalar beside a convolution",
    lambda n: n("Relu", n("Mul", n("Add", n.conv(), n.const(BETA)), n.number(0.5))),
    "Conv Relu",
    "bias and scalar fold all the same",
)


def _excited(n: Net) -> str:
    y = n.conv()
    return n("Relu", n("Mul", y, n("Sigmoid", n("GlobalAveragePool", y))))


# ---- types that change around the norm ----
@ROWS.stays("changes the type before the norm", "Conv Cast Mul Add Cast Relu", dtype=np.float32)
def a_norm_in_float64_within_a_network_of_float32(n: Net) -> str:
    def wide(values: np.ndarray) -> str:
        return n.whole(values.reshape(C, 1, 1))

    y = n("Cast", n.conv(), to=TensorProto.DOUBLE)
    y = n("Add", n("Mul", n("Sub", y, wide(MEAN)), wide(GAMMA)), wide(BETA))
    return n("Relu", n("Cast", y, to=TensorProto.FLOAT))


@ROWS.stays(
    "fake-quantisation stands before the norm",
    "Conv QuantizeLinear DequantizeLinear BatchNormalization Relu",
    dtype=np.float32,
)
def a_norm_behind_fake_quantisation(n: Net) -> str:
    scale, zero = n.number(0.05), n.whole(np.int8(0))
    y = n("DequantizeLinear", n("QuantizeLinear", n.conv(), scale, zero), scale, zero)
    return n("Relu", n.batchnorm(y))


@ROWS.stays(PASSES, "Conv Clip Mul Add Relu")
def a_norm_behind_a_Clip_without_bounds(n: Net) -> str:
    return n("Relu", n.affine(n("Clip", n.conv())))  # it still makes the largest number of infinity


@ROWS.stays("covers its positions unequally", "Relu Mul Add ConvTranspose")
def a_norm_before_a_transposed_convolution(n: Net) -> str:
    return n("ConvTranspose", n.affine(n("Relu", n.x(2, C, 3, 3))), n.vector(weights(C, 2, 2, 2)))


@ROWS.folds("Relu ConvTranspose")
def a_scale_before_a_transposed_convolution(n: Net) -> str:
    return n("ConvTranspose", n("Mul", n("Relu", n.x(2, C, 3, 3)), n.const(GAMMA)), n.vector(weights(C, 2, 2, 2)))


@ROWS.folds("Relu Conv")
def a_scale_before_a_padded_convolution(n: Net) -> str:
    return n("Conv", n("Mul", n("Relu", n.x(2, C, 3, 3)), n.const(GAMMA)), n.vector(weights(2, C, 3, 3)), pads=[1] * 4)
