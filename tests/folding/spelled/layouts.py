"""On which axis the channels of a norm lie, and what lays them out: transposes, rows, tokens, groups."""

from __future__ import annotations

import numpy as np

from tests.folding.case import weights
from tests.folding.spelled.rows import Net, Rows
from tests.folding.spellings import BETA, GAMMA, MEAN, VARIANCE, C

ROWS = Rows()
LAST, FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


# ---- channels last ----
@ROWS.folds()
def channels_last_between_two_transposes(n: Net) -> str:
    return n("Relu", n("Transpose", n.affine(n("Transpose", n.conv(), perm=LAST), (C,)), perm=FIRST))


@ROWS.folds("Transpose Conv Relu Transpose")
def channels_last_network_of_one_convolution(n: Net) -> str:
    y = n.conv(n("Transpose", n.x(2, 5, 4, 2), perm=FIRST))
    return n(
        "Transpose", n("Relu", n("Transpose", n.affine(n("Transpose", y, perm=LAST), (C,)), perm=FIRST)), perm=LAST
    )


@ROWS.folds("Transpose Conv Transpose Relu")
def channels_last_norm_and_relu_before_the_transpose_back(n: Net) -> str:
    y = n.conv(n("Transpose", n.x(2, 5, 4, 2), perm=FIRST))
    return n("Relu", n.affine(n("Transpose", y, perm=LAST), (C,)))


@ROWS.folds("Transpose Conv Transpose Relu")
def channels_last_norm_with_constants_of_rank_four(n: Net) -> str:
    y = n.conv(n("Transpose", n.x(2, 5, 4, 2), perm=FIRST))
    return n("Relu", n.affine(n("Transpose", y, perm=LAST), (1, 1, 1, C)))


@ROWS.folds("Transpose Conv Relu Transpose Transpose Conv Relu Transpose")
def two_channels_last_layers_with_relu_between_as_keras_3_writes_them(n: Net) -> str:
    y = n.x(2, 5, 4, 2)
    for inputs in (2, C):
        y = n("Transpose", n.conv(n("Transpose", y, perm=FIRST), inputs, pads=[1, 1, 1, 0]), perm=LAST)
        y = n("Relu", n.affine(n("Add", y, n.vector(BETA)), (1, 1, 1, C)))
    return y


@ROWS.folds("Transpose Conv Relu Transpose")
def batch_normalization_in_channels_last_between_transposes_as_tf2onnx_writes_it(n: Net) -> str:
    y = n("Transpose", n.conv(n("Transpose", n.x(2, 5, 4, 2), perm=FIRST)), perm=LAST)
    y = n("Transpose", n.batchnorm(n("Transpose", y, perm=FIRST)), perm=LAST)
    return n("Transpose", n("Relu", n("Transpose", y, perm=FIRST)), perm=LAST)


@ROWS.folds("Conv Transpose Relu")
def bias_in_channels_last_and_batch_normalization_in_channels_first(n: Net) -> str:
    y = n("Add", n("Transpose", n.conv(), perm=LAST), n.vector(BETA))
    return n("Relu", n("Transpose", n.batchnorm(n("Transpose", y, perm=FIRST)), perm=LAST))


@ROWS.folds("Conv Transpose Relu")
def transpose_between_the_steps(n: Net) -> str:
    y = n("Div", n("Sub", n.conv(), n.const(MEAN)), n.const(VARIANCE))
    return n("Relu", n("Add", n("Mul", n("Transpose", y, perm=LAST), n.vector(GAMMA)), n.vector(BETA)))


@ROWS.folds("Conv Transpose Relu")
def channels_in_front_of_the_batch(n: Net) -> str:
    return n("Relu", n.affine(n("Transpose", n.conv(), perm=[1, 0, 2, 3]), (C, 1, 1, 1)))


@ROWS.stays("scales and transposes at once", "Conv Einsum Relu")
def einsum_that_transposes_and_scales(n: Net) -> str:
    return n("Relu", n("Einsum", n.conv(), n.vector(GAMMA), equation="nchw,c->nhwc"))


@ROWS.folds("Conv Reshape Relu")
def rows_of_channels(n: Net) -> str:
    return n("Relu", n.affine(n("Reshape", n.conv(), n.ints(0, C, -1)), (C, 1)))


@ROWS.folds("Conv Reshape Transpose Relu")
def tokens_of_an_image(n: Net) -> str:
    y = n("Transpose", n("Reshape", n.conv(), n.ints(0, C, -1)), perm=[0, 2, 1])
    return n("Relu", n.affine(y, (C,)))


@ROWS.folds("Conv Reshape Transpose Relu")
def tokens_through_batch_normalization_of_rows(n: Net) -> str:
    y = n("Transpose", n.batchnorm(n("Reshape", n.conv(), n.ints(0, C, -1))), perm=[0, 2, 1])
    return n("Relu", y)


@ROWS.folds("Conv Transpose Reshape Relu")
def all_pixels_as_rows_of_a_matrix(n: Net) -> str:
    y = n("Reshape", n("Transpose", n.conv(), perm=LAST), n.ints(-1, C))
    return n("Relu", n.batchnorm(y))


@ROWS.folds("MatMul Add Relu")
def tokens_flattened_for_batch_normalization_of_vectors(n: Net) -> str:
    y = n("Reshape", n("MatMul", n.x(2, 3, 5), n.vector(weights(5, C))), n.ints(-1, C))
    return n("Relu", n("Reshape", n.batchnorm(y), n.ints(2, 3, C)))


@ROWS.folds("MatMul Add Transpose Relu")
def tokens_transposed_for_batch_normalization(n: Net) -> str:
    y = n("MatMul", n.x(2, 3, 5), n.vector(weights(5, C)))
    return n("Relu", n.batchnorm(n("Transpose", y, perm=[0, 2, 1])))


@ROWS.folds("Conv Relu Flatten")
def norm_behind_a_flatten_of_single_pixels(n: Net) -> str:
    y = n("Conv", n.x(2, 2, 3, 2), n.vector(weights(C, 2, 3, 2)))
    return n("Relu", n.batchnorm(n("Flatten", y)))


@ROWS.folds("Unsqueeze Conv Squeeze Relu")
def one_dimensional_convolution_as_a_two_dimensional_one(n: Net) -> str:
    x = n("Unsqueeze", n.x(2, 2, 7), n.ints(3))
    y = n("Conv", x, n.vector(weights(C, 2, 3, 1)))
    return n("Relu", n.affine(n("Squeeze", y, n.ints(3)), (C, 1)))


@ROWS.folds("Conv Reshape Relu")
def a_group_axis_beside_the_channels(n: Net) -> str:
    return n("Relu", n.affine(n("Reshape", n.conv(), n.ints(0, 1, C, 3, 3)), (1, 1, C, 1, 1)))


@ROWS.folds("Conv Reshape Relu")
def groups_with_a_scale_for_each_channel_in_a_group(n: Net) -> str:
    y = n("Reshape", n.conv(), n.ints(0, 2, 2, 3, 3))
    return n("Relu", n("Add", n("Mul", y, n.vector(GAMMA[:2].reshape(2, 1, 1))), n.vector(BETA[:2].reshape(2, 1, 1))))


@ROWS.folds("Conv Reshape Mul Relu", silent="its numbers differ along two axes")
def groups_with_a_scale_for_each_channel(n: Net) -> str:
    y = n("Reshape", n.conv(), n.ints(0, 2, 2, 3, 3))
    return n("Relu", n("Mul", y, n.vector(GAMMA.reshape(2, 2, 1, 1))))


@ROWS.folds("Conv Reshape Transpose Reshape Relu")
def norm_behind_a_channel_shuffle(n: Net) -> str:
    y = n("Transpose", n("Reshape", n.conv(), n.ints(2, 2, 2, 3, 3)), perm=[0, 2, 1, 3, 4])
    return n("Relu", n.batchnorm(n("Reshape", y, n.ints(2, C, 3, 3))))


@ROWS.folds("Conv DepthToSpace Relu")
def norm_behind_a_pixel_shuffle(n: Net) -> str:
    y = n("DepthToSpace", n.conv(outputs=16), blocksize=2)
    return n("Relu", n.batchnorm(y))


@ROWS.folds("Conv Slice Relu")
def norm_behind_channels_turned_round(n: Net) -> str:
    return n("Relu", n.affine(n("Slice", n.conv(), n.ints(-1), n.ints(-100), n.ints(1), n.ints(-1))))


@ROWS.folds("Conv Gather Relu")
def norm_behind_channels_in_another_order(n: Net) -> str:
    return n("Relu", n.affine(n("Gather", n.conv(), n.ints(2, 0, 3, 1), axis=1)))


@ROWS.stays("takes a channel several times, which the norm scales differently", "Conv Gather Mul Add Relu")
def norm_behind_a_channel_that_is_repeated(n: Net) -> str:
    return n("Relu", n.affine(n("Gather", n.conv(), n.ints(2, 0, 2, 1), axis=1)))


@ROWS.stays("apart", "Conv Reshape Transpose Reshape BatchNormalization Relu")
def norm_behind_a_shuffle_of_channels_and_rows(n: Net) -> str:
    y = n("Transpose", n("Reshape", n.conv(), n.ints(2, 2, 2, 3, 3)), perm=[0, 1, 3, 2, 4])
    return n("Relu", n.batchnorm(n("Reshape", y, n.ints(2, C, 3, 3))))


@ROWS.folds("Conv Mul Relu", silent="its numbers differ along several axes")
def a_scale_that_differs_in_one_corner(n: Net) -> str:
    scale = np.array(np.broadcast_to(GAMMA.reshape(C, 1, 1), (C, 3, 3)))
    scale[2, 2, 1] = 7.0
    return n("Relu", n("Mul", n.conv(), n.vector(scale)))


@ROWS.folds("Relu Concat Conv")
def norm_of_the_second_branch_of_a_concat_before_a_convolution(n: Net) -> str:
    x = n("Relu", n.x(2, C, 5, 4))
    return n("Conv", n("Concat", x, n.affine(x), axis=1), n.vector(weights(2, 2 * C, 2, 2)))
