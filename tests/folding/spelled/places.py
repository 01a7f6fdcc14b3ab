"""Where a norm stands: its producers, its consumers, its neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.folding.case import weights
from tests.folding.spelled.rows import Net, Rows
from tests.folding.spellings import BETA, GAMMA, C

ROWS = Rows()


# ---- producers ----
def behind(name: str, make: Any, left: str, shape: tuple[int, ...] = (C, 1, 1), **more: Any) -> None:
    ROWS.add(f"behind {name}", lambda n: n("Relu", n.affine(make(n), shape)), left, **more)


behind(
    "a convolution with a bias", lambda n: n("Conv", n.x(), n.vector(weights(C, 2, 3, 2)), n.vector(BETA)), "Conv Relu"
)
behind(
    "a strided and dilated convolution",
    lambda n: n.conv(n.x(1, 2, 9, 9), strides=[2, 1], dilations=[2, 2], pads=[1, 0, 2, 1]),
    "Conv Relu",
)
behind("a convolution that pads to the same size", lambda n: n.conv(auto_pad="SAME_UPPER"), "Conv Relu")
behind(
    "a grouped convolution", lambda n: n("Conv", n.x(2, 4, 5, 4), n.vector(weights(C, 2, 3, 2)), group=2), "Conv Relu"
)
behind(
    "a depthwise convolution", lambda n: n("Conv", n.x(2, 4, 5, 4), n.vector(weights(C, 1, 3, 2)), group=4), "Conv Relu"
)
behind(
    "a depthwise convolution with a multiplier",
    lambda n: n("Conv", n.x(2, 2, 5, 4), n.vector(weights(C, 1, 3, 2)), group=2),
    "Conv Relu",
)
behind(
    "a one-dimensional convolution", lambda n: n("Conv", n.x(2, 2, 7), n.vector(weights(C, 2, 3))), "Conv Relu", (C, 1)
)
behind(
    "a three-dimensional convolution",
    lambda n: n("Conv", n.x(1, 2, 4, 4, 4), n.vector(weights(C, 2, 2, 2, 2))),
    "Conv Relu",
    (C, 1, 1, 1),
)
behind(
    "a transposed convolution",
    lambda n: n("ConvTranspose", n.x(), n.vector(weights(2, C, 3, 2)), strides=[2, 2]),
    "ConvTranspose Relu",
)
behind(
    "a grouped transposed convolution",
    lambda n: n("ConvTranspose", n.x(2, 4, 3, 3), n.vector(weights(4, 2, 3, 2)), group=2),
    "ConvTranspose Relu",
)
behind("a Gemm", lambda n: n("Gemm", n.x(3, 5), n.vector(weights(5, C))), "Gemm Relu", (C,))
behind(
    "a Gemm with a transposed weight and factors",
    lambda n: n("Gemm", n.x(3, 5), n.vector(weights(C, 5)), n.vector(BETA), transB=1, alpha=0.5, beta=2.0),
    "Gemm Relu",
    (1, C),
)
behind("a MatMul of matrices", lambda n: n("MatMul", n.x(3, 5), n.vector(weights(5, C))), "MatMul Add Relu", (C,))
behind(
    "a MatMul and its bias",
    lambda n: n("Add", n("MatMul", n.x(2, 3, 5), n.vector(weights(5, C))), n.vector(BETA)),
    "MatMul Add Relu",
    (C,),
)
behind(
    "a MatMul with the bias first",
    lambda n: n("Add", n.vector(BETA), n("MatMul", n.x(2, 3, 5), n.vector(weights(5, C)))),
    "MatMul Add Relu",
    (C,),
)
behind(
    "a MatMul of a transposed weight",
    lambda n: n("MatMul", n.x(2, 3, 5), n("Transpose", n.vector(weights(C, 5)), perm=[1, 0])),
    "MatMul Add Relu",
    (C,),
)
behind(
    "a MatMul of rank four", lambda n: n("MatMul", n.x(2, 2, 3, 5), n.vector(weights(5, C))), "MatMul Add Relu", (C,)
)
behind(
    "an Einsum that is a linear layer",
    lambda n: n("Einsum", n.x(2, 3, 5), n.vector(weights(5, C)), equation="nlk,kc->nlc"),
    "Einsum Add Relu",
    (C,),
)
behind(
    "an Einsum of channels first",
    lambda n: n("Einsum", n.vector(weights(C, 2)), n.x(), equation="oc,nchw->nohw"),
    "Einsum Add Relu",
)
behind(
    "an Einsum of one matrix for each head",
    lambda n: n("Einsum", n.x(2, 3, 2, 5), n.vector(weights(3, 5, C)), equation="bhnc,hco->bhno"),
    "Einsum Add Relu",
    (C,),
)
behind(
    "a MatMul whose weight comes first",
    lambda n: n("MatMul", n.vector(weights(C, 3)), n.x(2, 3, 5)),
    "MatMul Add Relu",
    (C, 1),
)
behind(
    "a MatMul of a stack of matrices",
    lambda n: n("MatMul", n.x(2, 3, 2, 5), n.vector(weights(3, 5, C))),
    "MatMul Add Relu",
    (C,),
)
behind("a convolution and a scalar", lambda n: n("Mul", n.conv(), n.number(0.5)), "Conv Relu")
behind("a convolution and a bias of its own", lambda n: n("Add", n.conv(), n.const(BETA)), "Conv Relu")
behind(
    "a convolution and a Pad of the border",
    lambda n: n("Pad", n.conv(), n.ints(0, 0, 1, 1, 0, 0, 1, 1), "", mode="reflect"),
    "Conv Pad Relu",
)
behind("an average pool", lambda n: n("AveragePool", n.conv(), kernel_shape=[2, 2]), "Conv AveragePool Relu")
behind("a global average pool", lambda n: n("GlobalAveragePool", n.conv()), "Conv GlobalAveragePool Relu")
behind("a mean over space", lambda n: n("ReduceMean", n.conv(), n.ints(2, 3)), "Conv ReduceMean Relu")
behind(
    "a mean over space without its axes",
    lambda n: n("ReduceMean", n.conv(), n.ints(2, 3), keepdims=0),
    "Conv ReduceMean Relu",
    (C,),
)
behind("a concat", lambda n: _concat(n), "Conv Conv Concat Relu")
behind("a sum of two convolutions", lambda n: _sum(n), "Conv Conv Add Relu")
behind(
    "nearest upsampling",
    lambda n: n("Resize", n.conv(), "", n.factors(1, 1, 2, 2), mode="nearest"),
    "Conv Resize Relu",
)
behind(
    "linear upsampling",
    lambda n: n("Resize", n.conv(), "", n.factors(1, 1, 2, 2), mode="linear"),
    "Conv Resize Relu",
)
behind(
    "a cut of the borders", lambda n: n("Slice", n.conv(), n.ints(1, 0), n.ints(3, 2), n.ints(2, 3)), "Conv Slice Relu"
)
behind("a choice of rows", lambda n: n("Gather", n.conv(), n.ints(2, 0), axis=2), "Conv Gather Relu")
behind("a Tile over space", lambda n: n("Tile", n.conv(), n.ints(1, 1, 2, 1)), "Conv Tile Relu")
behind(
    "an Expand over space",
    lambda n: n("Expand", n("GlobalAveragePool", n.conv()), n.ints(2, C, 3, 3)),
    "Conv GlobalAveragePool Expand Relu",
)


def _two(n: Net, outputs: int = C) -> tuple[str, str]:
    x = n.x()
    return n.conv(x, outputs=outputs), n.conv(x, outputs=outputs)


def _concat(n: Net) -> str:
    return n("Concat", *_two(n, 2), axis=1)


def _sum(n: Net) -> str:
    return n("Add", *_two(n))


# ---- neighbours ----
@ROWS.folds()
def two_norms_in_line(n: Net) -> str:
    return n("Relu", n.batchnorm(n.affine(n.conv())))


@ROWS.folds("Conv Relu Conv")
def norm_on_both_sides_of_a_relu(n: Net) -> str:
    return n("Conv", n.affine(n("Relu", n.affine(n.conv()))), n.vector(weights(2, C, 2, 2)))


@ROWS.stays("pads its input with zeros", "Relu Mul Add Conv")
def norm_before_a_padded_convolution(n: Net) -> str:
    return n("Conv", n.affine(n("Relu", n.x(2, C, 5, 4))), n.vector(weights(2, C, 3, 3)), pads=[1] * 4)


@ROWS.stays("pads its input with zeros", "Mul Add Conv")
def norm_of_the_input_before_a_padded_convolution(n: Net) -> str:
    return n("Conv", n.affine(n.x(2, C, 5, 4)), n.vector(weights(2, C, 3, 3)), pads=[1] * 4)


@ROWS.folds("Conv")
def pixel_values_scaled_by_255_before_an_unpadded_convolution(n: Net) -> str:
    y = n("Div", n.x(1, 3, 5, 5), n.number(255.0))
    y = n(
        "Div",
        n("Sub", y, n.vector(np.array([0.485, 0.456, 0.406]).reshape(3, 1, 1))),
        n.vector(np.array([0.229, 0.224, 0.225]).reshape(3, 1, 1)),
    )
    return n("Conv", y, n.vector(weights(C, 3, 3, 3)))


@ROWS.stays("stands before the norm, and a map per channel does not pass through it", "Relu Mul Add Relu")
def norm_between_two_relus(n: Net) -> str:
    return n("Relu", n.affine(n("Relu", n.x(2, C, 5, 4))))


@ROWS.stays("is a graph input, not a constant", "Mul Add Relu")
def norm_of_the_input_alone(n: Net) -> str:
    return n("Relu", n.affine(n.x(2, C, 5, 4)))


@ROWS.folds("Conv")
def norm_as_output_of_the_graph(n: Net) -> str:
    return n.affine(n.conv())


@ROWS.stays("has more than one reader", "Conv Mul Add Relu Add")
def convolution_read_by_a_second_node(n: Net) -> str:
    y = n.conv()
    return n("Add", n("Relu", n.affine(y)), y)


@ROWS.folds("Conv Relu Sigmoid Add")
def norm_read_by_two_nodes(n: Net) -> str:
    y = n.affine(n.conv())
    return n("Add", n("Relu", y), n("Sigmoid", y))


@ROWS.stays("is shared: it also feeds", "Conv Conv Mul Add Mul Add Sub")
def convolutions_that_share_a_weight(n: Net) -> str:
    weight = n.vector(weights(C, 2, 3, 2))
    first, second = n.x(), n.b.input((2, 2, 5, 4), "second")
    return n("Sub", n.affine(n("Conv", first, weight)), n.affine(n("Conv", second, weight)))


@ROWS.folds("Relu Pad Conv")
def norm_before_an_explicit_reflecting_pad(n: Net) -> str:
    y = n.affine(n("Relu", n.x(2, C, 5, 4)))
    return n("Conv", n("Pad", y, n.ints(0, 0, 1, 1, 0, 0, 1, 1), "", mode="reflect"), n.vector(weights(2, C, 3, 3)))


@ROWS.stays("would not be what the norm makes of it", "Relu Mul Add Pad Conv")
def norm_before_an_explicit_pad_of_zeros(n: Net) -> str:
    y = n.affine(n("Relu", n.x(2, C, 5, 4)))
    return n("Conv", n("Pad", y, n.ints(0, 0, 1, 1, 0, 0, 1, 1)), n.vector(weights(2, C, 3, 3)))


@ROWS.folds("Relu AveragePool Conv")
def norm_before_a_pool_before_a_convolution(n: Net) -> str:
    y = n("AveragePool", n.affine(n("Relu", n.x(2, C, 5, 4))), kernel_shape=[2, 2])
    return n("Conv", y, n.vector(weights(2, C, 2, 2)))


@ROWS.stays("the norm turns the order around (scale < 0)", "Relu Mul Add MaxPool Conv")
def norm_with_negative_scales_before_a_max_pool(n: Net) -> str:
    y = n("MaxPool", n.affine(n("Relu", n.x(2, C, 5, 4))), kernel_shape=[2, 2])
    return n("Conv", y, n.vector(weights(2, C, 2, 2)))


@ROWS.folds("Relu Concat Conv")
def norm_of_one_branch_of_a_concat_before_a_convolution(n: Net) -> str:
    x = n("Relu", n.x(2, C, 5, 4))
    return n("Conv", n("Concat", n.affine(x), x, axis=1), n.vector(weights(2, 2 * C, 2, 2)))


@ROWS.folds("Relu GlobalAveragePool Flatten Gemm")
def last_norm_before_the_classifier(n: Net) -> str:
    y = n("Flatten", n("GlobalAveragePool", n.affine(n("Relu", n.x(2, C, 5, 4)))))
    return n("Gemm", y, n.vector(weights(3, C)), transB=1)


@ROWS.folds("Relu Flatten Gemm")
def norm_before_a_flatten_of_an_image(n: Net) -> str:
    return n("Gemm", n("Flatten", n.affine(n("Relu", n.x(2, C, 3, 2)))), n.vector(weights(3, 6 * C)), transB=1)


@ROWS.folds("Relu MatMul Add")
def affine_before_a_linear_layer(n: Net) -> str:
    return n("MatMul", n.affine(n("Relu", n.x(2, 3, C)), (C,)), n.vector(weights(C, 3)))


@ROWS.folds("Relu Einsum Add")
def norm_before_an_Einsum_of_channels_first(n: Net) -> str:
    y = n.affine(n("Relu", n.x(2, C, 5, 4)))
    return n("Einsum", y, n.vector(weights(3, C)), equation="bchw,oc->bohw")


@ROWS.folds("Relu MatMul Add")
def norm_before_a_MatMul_whose_weight_comes_first(n: Net) -> str:
    return n("MatMul", n.vector(weights(3, C)), n.affine(n("Relu", n.x(2, C, 5)), (C, 1)))


@ROWS.folds("Relu Resize Conv")
def norm_before_nearest_upsampling_and_a_convolution(n: Net) -> str:
    y = n("Resize", n.affine(n("Relu", n.x(2, C, 3, 3))), "", n.factors(1, 1, 2, 2), mode="nearest")
    return n("Conv", y, n.vector(weights(2, C, 3, 3)))


@ROWS.folds("Slice Slice Concat Conv")
def input_norm_before_the_focus_layer(n: Net) -> str:
    y = n.affine(n.x(1, C, 6, 4))
    halves = [n("Slice", y, n.ints(i), n.ints(6), n.ints(2), n.ints(2)) for i in (0, 1)]
    return n("Conv", n("Concat", *halves, axis=1), n.vector(weights(3, 2 * C, 2, 2)))


@ROWS.folds("Conv Conv Add Relu")
def residual_sum_of_two_normed_branches(n: Net) -> str:
    first, second = _two(n)
    return n("Relu", n("Add", n.affine(first), n.affine(second)))


@ROWS.folds("Conv Add Relu")
def layer_scale_before_a_residual_sum(n: Net) -> str:
    x = n.x(2, C, 5, 4)
    y = n("Conv", x, n.vector(weights(C, C, 1, 1)))
    return n("Relu", n("Add", x, n("Mul", y, n.const(GAMMA))))


@ROWS.folds("MatMul Add Add Relu")
def layer_scale_of_a_transformer(n: Net) -> str:
    x = n.x(2, 3, C)
    y = n("Add", n("MatMul", x, n.vector(weights(C, C))), n.vector(BETA))
    return n("Relu", n("Add", x, n("Mul", y, n.vector(GAMMA))))


@ROWS.folds("Conv Sigmoid Mul")
def norm_before_swish(n: Net) -> str:
    y = n.affine(n.conv())
    return n("Mul", y, n("Sigmoid", y))


@ROWS.stays("which is not one value per channel", "Conv Sub Mul Add Relu")
def norm_that_broadcasts_one_channel(n: Net) -> str:
    return n("Relu", n.affine(n.conv(outputs=1)))


@ROWS.stays("works on axis 1, the norm on axis 3", "Conv Mul Add Relu")
def norm_along_the_width(n: Net) -> str:
    return n("Relu", n.affine(n("Conv", n.x(2, 2, 5, 5), n.vector(weights(C, 2, 2, 2))), (C,)))


@ROWS.stays("works on axis 2, the norm on axis 1", "MatMul Mul Add Relu")
def norm_over_the_tokens(n: Net) -> str:
    return n("Relu", n.affine(n("MatMul", n.x(2, C, 5), n.vector(weights(5, C))), (C, 1)))
