"""Norms as other frameworks and papers leave them in a file: Keras, JAX, Paddle, MXNet, Caffe, darknet, detectron2."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.folding.case import weights
from tests.folding.spelled.rows import Net, Rows
from tests.folding.spellings import BETA, GAMMA, MEAN, VARIANCE, C

ROWS = Rows()
LAST, FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
PASSES = "a map per channel does not pass through it"


# ---- frameworks ----
@ROWS.folds("Transpose Conv Relu Transpose")
def keras_3_moments_kept_as_reshaped_variables(n: Net) -> str:
    y = n("Transpose", n.conv(n("Transpose", n.x(2, 5, 4, 2), perm=FIRST)), perm=LAST)
    mean, variance = (n("Reshape", n.vector(values), n.ints(1, 1, 1, C)) for values in (MEAN, VARIANCE))
    inverse = n("Mul", n("Reciprocal", n("Sqrt", n("Add", variance, n.number(1e-3)))), n.vector(GAMMA))
    y = n("Add", n("Mul", y, inverse), n("Sub", n.vector(BETA), n("Mul", mean, inverse)))
    return n("Transpose", n("Relu", n("Transpose", y, perm=FIRST)), perm=LAST)


@ROWS.folds("Conv Transpose Relu")
def jax_rsqrt_of_a_broadcast_variance(n: Net) -> str:
    y = n("Transpose", n.conv(), perm=LAST)
    spread = n("Expand", n("Add", n.vector(VARIANCE.reshape(1, 1, 1, C)), n.number(1e-5)), n.ints(1, 3, 3, C))
    y = n("Mul", n("Sub", y, n("Expand", n.vector(MEAN), n.ints(2, 3, 3, C))), n("Pow", spread, n.number(-0.5)))
    return n("Relu", n("Add", n("Mul", y, n.vector(GAMMA)), n.vector(BETA)))


@ROWS.folds("Einsum Add Relu")
def flax_dense_with_batch_norm_by_dot_general(n: Net) -> str:
    y = n("Einsum", n.x(3, 5), n.vector(weights(5, C)), equation="ab,bc->ac")
    return n("Relu", n.affine(y, (1, C)))


@ROWS.folds()
def paddle_batch_norm_whose_bias_stands_in_an_add_of_axis_1(n: Net) -> str:
    y = n("Add", n.conv(), n("Reshape", n.vector(BETA), n.ints(1, -1, 1, 1)))
    return n("Relu", n.batchnorm(y, epsilon=1e-5, momentum=0.9))


@ROWS.folds()
def mxnet_batch_norm_with_fix_gamma(n: Net) -> str:
    gamma = n("Expand", n.number(1.0), n.ints(C))
    return n("Relu", n("BatchNormalization", n.conv(), gamma, *(n.vector(v) for v in (BETA, MEAN, VARIANCE))))


@ROWS.folds()
def caffe_batch_norm_with_a_scale_factor_and_a_scale_layer(n: Net) -> str:
    factor = n("Reciprocal", n.number(0.9))
    ones, zeros = n.vector(np.ones(C)), n.vector(np.zeros(C))
    mean, variance = (n("Mul", n.vector(values), factor) for values in (MEAN, VARIANCE))
    y = n("BatchNormalization", n.conv(), ones, zeros, mean, variance)
    return n("Relu", n("Add", n("Mul", y, n.const(GAMMA)), n.const(BETA)))


@ROWS.folds("Conv LeakyRelu")
def darknet_scales_and_biases_of_a_standardised_output(n: Net) -> str:
    deviation = n("Add", n("Sqrt", n.const(VARIANCE)), n.number(1e-6))
    y = n("Div", n("Sub", n.conv(pads=[1, 1, 1, 0]), n.const(MEAN)), deviation)
    return n("LeakyRelu", n("Add", n("Mul", y, n.const(GAMMA)), n.const(BETA)), alpha=0.1)


@ROWS.folds("Conv Unsqueeze Squeeze Relu")
def coreml_batchnorm_with_instance_flag_off_and_rank_five_constants(n: Net) -> str:
    y = n("Unsqueeze", n.conv(), n.ints(0))
    return n("Relu", n("Squeeze", n.affine(y, (1, 1, C, 1, 1)), n.ints(0)))


@ROWS.folds()
def detectron2_frozen_batch_norm_with_epsilon_in_the_buffer(n: Net) -> str:
    scale = n("Mul", n.vector(GAMMA), n("Pow", n("Add", n.vector(VARIANCE), n.number(1e-5)), n.number(-0.5)))
    shift = n("Sub", n.vector(BETA), n("Mul", n.vector(MEAN), scale))
    rows = n.ints(1, -1, 1, 1)
    return n("Relu", n("Add", n("Mul", n.conv(), n("Reshape", scale, rows)), n("Reshape", shift, rows)))


@ROWS.folds()
def directml_batch_norm_with_computed_statistics_in_constant_nodes(n: Net) -> str:
    def node(values: np.ndarray) -> str:
        return n.b.const(values, as_node=True)

    mean = n("Identity", node(MEAN))
    return n("Relu", n("BatchNormalization", n.conv(), node(GAMMA), node(BETA), mean, n("Abs", node(-VARIANCE))))


@ROWS.folds("Conv LeakyRelu")
def in_place_activated_batch_norm_with_the_absolute_of_gamma(n: Net) -> str:
    gamma = n("Add", n("Abs", n.vector(GAMMA)), n.number(1e-5))
    y = n("BatchNormalization", n.conv(), gamma, *(n.vector(v) for v in (BETA, MEAN, VARIANCE)))
    return n("LeakyRelu", y, alpha=0.01)


@ROWS.folds()
def synchronised_batch_norm_with_a_counted_variance(n: Net) -> str:
    unbiased = n("Div", n("Mul", n.const(VARIANCE), n.number(64.0)), n.number(63.0))
    y = n("Mul", n("Sub", n.conv(), n.const(MEAN)), n("Reciprocal", n("Sqrt", unbiased)))
    return n("Relu", n("Add", n("Mul", y, n.const(GAMMA)), n.const(BETA)))


# ---- papers ----
@ROWS.folds()
def batch_renormalisation_with_r_and_d_clipped(n: Net) -> str:
    r = n("Clip", n("Div", n.const(VARIANCE), n.const(GAMMA)), n.number(0.3), n.number(3.0))
    d = n("Clip", n("Sub", n.const(MEAN), n.const(BETA)), n.number(-5.0), n.number(5.0))
    y = n("Div", n("Sub", n.conv(), n.const(MEAN)), n("Sqrt", n.const(VARIANCE)))
    return n("Relu", n("Add", n("Mul", y, r), d))


@ROWS.folds()
def ghost_batch_norm_whose_splits_are_averaged_at_inference(n: Net) -> str:
    ghosts = n.vector(np.stack([MEAN, MEAN + 1, MEAN - 0.5]))
    mean = n("Unsqueeze", n("ReduceMean", ghosts, n.ints(0), keepdims=0), n.ints(1, 2))
    variance = n("ReduceMax", n.vector(np.stack([VARIANCE, VARIANCE / 2]).reshape(2, C, 1, 1)), n.ints(0), keepdims=0)
    return n("Relu", n("Div", n("Sub", n.conv(), mean), n("Sqrt", variance)))


@ROWS.folds()
def act_norm_of_glow_with_a_log_factor(n: Net) -> str:
    return n("Relu", n("Mul", n("Add", n.conv(), n.const(BETA)), n("Exp", n("Mul", n.const(GAMMA), n.number(3.0)))))


@ROWS.folds("Conv Tanh Conv")
def dynamic_tanh_before_a_convolution(n: Net) -> str:
    y = n("Tanh", n("Mul", n("Add", n.conv(), n("Neg", n.const(MEAN))), n.number(0.7)))
    y = n("Add", n("Mul", y, n.const(GAMMA)), n.const(BETA))
    return n("Conv", y, n.vector(weights(2, C, 2, 2)))


@ROWS.stays(PASSES, "Conv Tanh Mul Add Relu")
def dynamic_tanh_at_the_end(n: Net) -> str:
    y = n("Tanh", n("Mul", n.conv(), n.number(0.7)))
    return n("Relu", n("Add", n("Mul", y, n.const(GAMMA)), n.const(BETA)))


@ROWS.stays("has more than one reader", "Conv Sqrt Div Sigmoid Mul Conv")
def evonorm_b0_with_running_variance_before_a_convolution(n: Net) -> str:
    y = n.conv()
    y = n("Mul", n("Div", y, n("Sqrt", n.const(VARIANCE))), n("Sigmoid", y))
    y = n("Add", n("Mul", y, n.const(GAMMA)), n.const(BETA))
    return n("Conv", y, n.vector(weights(2, C, 2, 2)))


@ROWS.stays("computes the statistics of each sample", "Conv Split InstanceNormalization Concat Relu")
def ibn_net_half_instance_norm_half_batch_norm(n: Net) -> str:
    n.b.node("Split", [n.conv(), n.ints(2, 2)], outputs=2, axis=1)
    first, second = n.b.nodes[-1].output
    half = [n.vector(values[:2]) for values in (GAMMA, BETA, MEAN, VARIANCE)]
    instance = n("InstanceNormalization", first, half[0], half[1])
    return n("Relu", n("Concat", instance, n("BatchNormalization", second, *half), axis=1))


def _affine(n: Net, x: str, start: int, stop: int) -> str:
    """Scale and shift of some of the channels."""
    gamma, beta = (n.vector(values[start:stop].reshape(-1, 1, 1)) for values in (GAMMA, BETA))
    return n("Add", n("Mul", x, gamma), beta)


@ROWS.folds("Conv Split Relu Tanh Concat")
def split_batch_norm_of_two_halves_with_activations_of_their_own(n: Net) -> str:
    n.b.node("Split", [n.conv(), n.ints(1, 3)], outputs=2, axis=1)
    first, second = n.b.nodes[-1].output
    return n("Concat", n("Relu", _affine(n, first, 0, 1)), n("Tanh", _affine(n, second, 1, C)), axis=1)


# ---- convolutions ----
@ROWS.folds("Conv Relu")
def affine_by_a_depthwise_convolution_of_one_pixel_behind_a_norm(n: Net) -> str:
    return n("Relu", n.affine(n("Conv", n.x(2, C, 5, 4), n.vector(GAMMA.reshape(C, 1, 1, 1)), n.vector(BETA), group=C)))


@ROWS.folds("Relu Conv")
def norm_before_a_depthwise_convolution_of_one_pixel(n: Net) -> str:
    y = n.affine(n("Relu", n.x(2, C, 5, 4)))
    return n("Conv", y, n.vector(GAMMA.reshape(C, 1, 1, 1)), n.vector(BETA), group=C)


@ROWS.folds("Relu Conv")
def norm_before_a_convolution_that_pads_a_single_pixel_to_the_same_size(n: Net) -> str:
    return n("Conv", n.affine(n("Relu", n.x(2, C, 5, 4))), n.vector(weights(2, C, 1, 1)), auto_pad="SAME_UPPER")


@ROWS.folds("ConvTranspose Relu")
def behind_a_transposed_convolution_with_output_padding(n: Net) -> str:
    weight = n.vector(weights(2, C, 3, 3))
    return n("Relu", n.affine(n("ConvTranspose", n.x(), weight, strides=[2, 2], output_padding=[1, 1])))


@ROWS.folds("Relu ConvTranspose")
def scale_before_a_grouped_transposed_convolution(n: Net) -> str:
    y = n("Div", n("Relu", n.x(2, C, 5, 4)), n.const(VARIANCE))
    return n("ConvTranspose", y, n.vector(weights(C, 3, 2, 2)), group=2, strides=[2, 1])


@ROWS.folds("Conv Conv Relu Concat")
def two_convolutions_that_share_their_bias(n: Net) -> str:
    x, bias = n.x(), n.vector(BETA)
    first, second = (n("Conv", x, n.vector(weights(C, 2, 3, 2) + i), bias) for i in (0, 1))
    return n("Concat", n("Relu", n.affine(first)), n.batchnorm(second), axis=1)


@ROWS.folds("Conv Relu Conv")
def two_norms_in_series_with_a_relu_and_a_convolution_between(n: Net) -> str:
    return n("Conv", n.batchnorm(n("Relu", n.batchnorm(n.conv()))), n.vector(weights(2, C, 2, 2)))


@ROWS.folds("Conv Relu")
def one_dimensional_norm_of_a_squeezed_image(n: Net) -> str:
    y = n("Conv", n.x(2, 2, 7), n.vector(weights(C, 2, 3)), dilations=[2], group=1)
    return n("Relu", n.batchnorm(y))


@ROWS.folds("ConvTranspose Relu")
def three_dimensional_norm_behind_a_transposed_convolution(n: Net) -> str:
    y = n("ConvTranspose", n.x(1, 2, 2, 3, 2), n.vector(weights(2, C, 2, 2, 2)))
    return n("Relu", n.affine(y, (1, C, 1, 1, 1)))


# ---- what stands behind ----
@ROWS.folds("Relu Pad Conv")
def norm_before_a_pad_of_what_it_keeps(n: Net) -> str:
    shift = n.const(0.5 - 0.5 * GAMMA)  # 0.5 stays 0.5
    y = n("Add", n("Mul", n("Relu", n.x(2, C, 5, 4)), n.const(GAMMA)), shift)
    return n("Conv", n("Pad", y, n.ints(0, 0, 1, 1, 0, 0, 1, 1), n.number(0.5)), n.vector(weights(2, C, 3, 3)))


@ROWS.stays("would not be what the norm makes of it", "Relu Mul Add Pad Conv")
def norm_before_a_pad_of_another_constant(n: Net) -> str:
    y = n("Pad", n.affine(n("Relu", n.x(2, C, 5, 4))), n.ints(0, 0, 1, 1, 0, 0, 1, 1), n.number(0.5))
    return n("Conv", y, n.vector(weights(2, C, 3, 3)))


@ROWS.folds("Conv Pad Relu")
def norm_behind_a_pad_whose_border_is_cut_off(n: Net) -> str:
    y = n("Pad", n.conv(), n.ints(0, 0, 0, -1, 0, 0, -1, 0))
    return n("Relu", n.affine(y))


@ROWS.folds("Relu AveragePool Conv")
def norm_before_a_padded_average_pool_that_does_not_count_its_padding(n: Net) -> str:
    y = n("AveragePool", n.affine(n("Relu", n.x(2, C, 5, 4))), kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=0)
    return n("Conv", y, n.vector(weights(2, C, 2, 2)))


@ROWS.stays("counts its zero padding", "Relu Mul Add AveragePool Conv")
def norm_before_a_padded_average_pool_that_counts_its_padding(n: Net) -> str:
    y = n("AveragePool", n.affine(n("Relu", n.x(2, C, 5, 4))), kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)
    return n("Conv", y, n.vector(weights(2, C, 2, 2)))


@ROWS.stays(PASSES, "Relu Mul Add LpPool Conv", dtype=np.float32)
def norm_before_a_pool_of_p_norms(n: Net) -> str:
    y = n("LpPool", n.affine(n("Relu", n.x(2, C, 5, 4))), kernel_shape=[2, 2], p=2)
    return n("Conv", y, n.vector(weights(2, C, 2, 2)))


@ROWS.folds("Relu Resize Conv")
def norm_before_cubic_upsampling_by_sizes(n: Net) -> str:
    y = n("Resize", n.affine(n("Relu", n.x(2, C, 3, 3))), "", "", n.ints(2, C, 5, 7), mode="cubic")
    return n("Conv", y, n.vector(weights(2, C, 3, 3)))


@ROWS.folds("Relu GlobalAveragePool Conv")
def norm_before_a_global_pool_and_a_head_of_one_pixel(n: Net) -> str:
    y = n("GlobalAveragePool", n.affine(n("Relu", n.x(2, C, 5, 4))))
    return n("Conv", y, n.vector(weights(3, C, 1, 1)))


@ROWS.folds("Relu Sigmoid Concat Conv")
def norm_of_one_branch_of_a_concat_with_an_activation_in_the_other(n: Net) -> str:
    x = n.x(2, C, 5, 4)
    y = n("Concat", n("Sigmoid", x), n.affine(n("Relu", x)), axis=1)
    return n("Conv", y, n.vector(weights(2, 2 * C, 2, 2)))


@ROWS.folds("Conv Softmax")
def norm_before_softmax_over_the_channels(n: Net) -> str:
    return n("Softmax", n.affine(n.conv()), axis=1)


@ROWS.folds("Conv ArgMax Cast")
def norm_before_the_choice_of_a_class(n: Net) -> str:
    return n("Cast", n("ArgMax", n.affine(n.conv()), axis=1), to=n.type)


@ROWS.stays("has more than one reader", "Relu Greater Mul Add Where Conv")
def norm_of_one_side_of_a_choice(n: Net) -> str:
    x = n("Relu", n.x(2, C, 5, 4))
    return n("Conv", n("Where", n("Greater", x, n.number(0.3)), n.affine(x), x), n.vector(weights(2, C, 2, 2)))


@ROWS.folds("Conv Relu Tile Conv")
def norm_of_a_patch_that_is_repeated(n: Net) -> str:
    y = n("Tile", n.affine(n("Relu", n.conv())), n.ints(1, 1, 2, 2))
    return n("Conv", y, n.vector(weights(2, C, 3, 3)))


# ---- operators that normalise by themselves ----
def own(name: str, make: Any, left: str, reason: str, **more: Any) -> None:
    ROWS.add(name, make, left, stays=reason, **more)


own(
    "RMS norm of opset 23",
    lambda n: n("RMSNormalization", n("MatMul", n.x(2, 3, 5), n.vector(weights(5, C))), n.vector(GAMMA)),
    "MatMul RMSNormalization",
    "subtracts no mean",
    opset=23,
)
own(
    "LpNormalization",
    lambda n: n("LpNormalization", n.conv(), axis=1, p=2),
    "Conv LpNormalization",
    "subtracts no mean",
)
own(
    "MeanVarianceNormalization",
    lambda n: n("MeanVarianceNormalization", n.conv(), axes=[0, 2, 3]),
    "Conv MeanVarianceNormalization",
    "computes the statistics",
)
