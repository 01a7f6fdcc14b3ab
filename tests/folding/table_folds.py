"""Graphs whose norms must fold away completely, with the operators that are left."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from normexport import norms
from tests.folding.build import GraphBuilder, bias_like
from tests.folding.case import FORMS, Cases, branch, chain, conv, norm, weights

CASES = Cases()


# ---- into the producer ------------------------------------------------------------------------------------------


def _conv_then(form: str, sides: int, bias: bool, b: GraphBuilder) -> None:
    x = b.input((2, 2, *[4, 5, 3][:sides]))
    y = conv(b, x, 2, 3, (3, 2, 2)[:sides], bias=bias, pads=[1, 0, 1][:sides] + [0, 1, 1][:sides])
    b.output(norm(b, y, 3, sides + 2, form))


for _form in FORMS:
    for _sides in (1, 2, 3):
        for _bias in (True, False):
            _name = f"{_form}_after_{_sides}d_conv_{'with' if _bias else 'without'}_bias"
            CASES.add(_name, partial(_conv_then, _form, _sides, _bias), Conv=1)


@CASES.folds(Conv=1)
def norm_after_grouped_strided_dilated_conv(b: GraphBuilder) -> None:
    y = conv(b, b.input((1, 4, 7, 7)), 4, 6, group=2, strides=[2, 1], dilations=[1, 2], auto_pad="VALID")
    b.output(norm(b, y, 6))


@CASES.folds(Conv=1)
def norm_after_depthwise_conv_with_same_padding(b: GraphBuilder) -> None:
    b.output(norm(b, conv(b, b.input((1, 4, 5, 5)), 4, 4, group=4, auto_pad="SAME_LOWER"), 4))


@CASES.folds(Conv=1, infer=False)
def chain_after_conv_in_a_file_without_shapes(b: GraphBuilder) -> None:
    b.output(norm(b, conv(b, b.input((1, 2, 5, 5)), 2, 3), 3, form="naive"))


@CASES.folds(Conv=1)
def chain_after_conv_of_symbolic_batch(b: GraphBuilder) -> None:
    b.output(norm(b, conv(b, b.input(("batch", 2, 5, 5)), 2, 3), 3, form="naive"))


@CASES.folds(Conv=1)
def chain_whose_constants_name_the_batch_axis(b: GraphBuilder) -> None:
    y = conv(b, b.input((2, 2, 5, 5)), 2, 3)
    b.output(chain(b, y, [("Sub", bias_like(3), False), ("Mul", weights(3), True)], batch_axis=True))


@CASES.folds(Conv=1)
def norm_whose_constants_are_constant_nodes(b: GraphBuilder) -> None:
    weight = b.const(weights(3, 2, 1, 1), as_node=True)
    y = b.node("Conv", [b.input((1, 2, 4, 4)), weight])
    y = b.node("Mul", [b.const(weights(3, 1, 1), as_node=True), y])
    b.output(b.node("Add", [y, b.const(bias_like(3).reshape(3, 1, 1), as_node=True)]))


@CASES.folds(Conv=1)
def three_norms_in_a_row(b: GraphBuilder) -> None:
    y = norm(b, conv(b, b.input((1, 2, 5, 5)), 2, 3), 3)
    b.output(norm(b, norm(b, y, 3, form="batchnorm"), 3, form="naive"))


@CASES.folds(Conv=2, Relu=1)
def two_convs_whose_norms_share_their_constants(b: GraphBuilder) -> None:
    shared = [b.const(value) for value in (bias_like(3), weights(3) + 2, weights(3), bias_like(3))]
    y = b.input((1, 3, 5, 5))
    for last in (False, True):
        y = b.node("RunningNorm", [conv(b, y, 3, 3), *shared], domain=norms.DOMAIN, kind="l1")
        y = y if last else b.node("Relu", [y])
    b.output(y)


@CASES.folds(Conv=1, Relu=1, If=1)
def norm_read_inside_a_branch(b: GraphBuilder) -> None:
    y = norm(b, conv(b, b.input((1, 2, 5, 5)), 2, 3), 3)
    b.output(b.node("Relu", [y]), branch(b, y))


@CASES.folds(Conv=2)
def two_convs_that_share_a_bias(b: GraphBuilder) -> None:
    x, bias = b.input((1, 2, 5, 5)), b.const(bias_like(3), "bias")
    for kernel in ((3, 3), (1, 1)):
        y = b.node("Conv", [x, b.const(weights(3, 2, *kernel)), bias])
        b.output(norm(b, y, 3))


def _transposed(group: int, bias: bool, b: GraphBuilder) -> None:
    operands = [b.input((2, 4, 3, 3)), b.const(weights(4, 6 // group, 3, 2), "weight")]
    if bias:
        operands.append(b.const(bias_like(6), "bias"))
    attrs: dict[str, Any] = {"strides": [2, 1], "pads": [1, 0, 0, 1], "output_padding": [1, 0]}
    b.output(norm(b, b.node("ConvTranspose", operands, group=group, **attrs), 6))


for _group in (1, 2):
    for _bias in (True, False):
        _name = f"norm_after_transposed_conv_of_{_group}_groups_{'with' if _bias else 'without'}_bias"
        CASES.add(_name, partial(_transposed, _group, _bias), ConvTranspose=1)


def _gemm(trans_b: int, c_shape: tuple[int, ...] | None, alpha: float, beta: float, b: GraphBuilder) -> None:
    shape = (3, 4) if trans_b else (4, 3)
    operands = [b.input((2, 4)), b.const(weights(*shape), "weight")]
    if c_shape is not None:
        operands.append(b.const(0.5 + weights(*c_shape), "bias"))
    b.output(norm(b, b.node("Gemm", operands, transB=trans_b, alpha=alpha, beta=beta), 3, rank=2))


for _trans in (0, 1):
    for _shape in (None, (3,), (1, 3), (1,), ()):
        CASES.add(f"norm_after_gemm_transB_{_trans}_c_{_shape}", partial(_gemm, _trans, _shape, 1.0, 1.0), Gemm=1)
    CASES.add(f"norm_after_gemm_transB_{_trans}_scaled", partial(_gemm, _trans, (3,), 0.5, -2.0), Gemm=1)
    CASES.add(f"norm_after_gemm_transB_{_trans}_unused_c", partial(_gemm, _trans, (3,), 1.0, 0.0), Gemm=1)
    CASES.add(f"norm_after_gemm_transB_{_trans}_unused_beta", partial(_gemm, _trans, None, 0.5, -2.0), Gemm=1)
CASES.add("norm_after_square_gemm_alpha_without_c", partial(_gemm, 1, None, 3.0, 5.0), Gemm=1)


@CASES.folds(Gemm=1)
def norm_after_square_gemm(b: GraphBuilder) -> None:
    y = b.node("Gemm", [b.input((3, 3)), b.const(weights(3, 3)), b.const(bias_like(3))], transB=1)
    b.output(norm(b, y, 3, rank=2))


@CASES.folds(MatMul=1, Add=1)
def norm_after_matmul_and_bias(b: GraphBuilder) -> None:
    y = b.node("MatMul", [b.input((2, 4)), b.const(weights(4, 3))])
    b.output(norm(b, b.node("Add", [y, b.const(bias_like(3))]), 3, rank=2))


@CASES.folds(MatMul=1, Add=1)
def norm_after_matmul_of_a_transposed_weight(b: GraphBuilder) -> None:
    weight = b.node("Transpose", [b.const(weights(3, 3))], perm=[1, 0])
    y = b.node("MatMul", [b.input((2, 3)), weight])
    b.output(norm(b, b.node("Add", [b.const(bias_like(3)), y]), 3, rank=2))


def _bounded(axis: int, rho: tuple[int, ...], p: float, b: GraphBuilder) -> None:
    operands = [b.const(weights(3, 2, 3, 3)), b.const(0.5 + np.arange(np.prod(rho)).reshape(rho))]
    resolved = b.node("BoundedWeightNorm", operands, domain=norms.DOMAIN, axis=axis, p=p)
    b.output(norm(b, conv(b, b.input((1, 2, 5, 5)), 2, 3, weight=resolved), 3))


for _axis, _rho in ((0, (3, 1, 1, 1)), (0, ()), (1, (1, 2, 1, 1)), (-1, (1,))):
    for _p in (1.0, 2.0):
        _name = f"norm_after_conv_under_bounded_weight_norm_axis_{_axis}_p_{_p}_rho_{_rho}"
        CASES.add(_name, partial(_bounded, _axis, _rho, _p), Conv=1)


@CASES.folds(Conv=1)
def batch_normalization_of_default_epsilon_after_conv(b: GraphBuilder) -> None:
    y = conv(b, b.input((1, 2, 5, 5)), 2, 3)
    constants = [b.const(value) for value in (weights(3), bias_like(3), bias_like(3), np.full(3, 0.01))]
    b.output(b.node("BatchNormalization", [y, *constants]))


# ---- through pools, concat and add --------------------------------------------------------------------------------


@CASES.folds(Conv=1, MaxPool=1)
def positive_norm_after_padded_max_pool(b: GraphBuilder) -> None:
    y = conv(b, b.input((1, 2, 6, 6)), 2, 3)
    y = b.node("MaxPool", [y], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    b.output(norm(b, y, 3, positive=True))


@CASES.folds(Conv=1, GlobalMaxPool=1)
def positive_norm_after_global_max_pool(b: GraphBuilder) -> None:
    b.output(norm(b, b.node("GlobalMaxPool", [conv(b, b.input((1, 2, 6, 6)), 2, 3)]), 3, positive=True))


@CASES.folds(Conv=1, AveragePool=1)
def norm_after_unpadded_average_pool(b: GraphBuilder) -> None:
    y = b.node("AveragePool", [conv(b, b.input((1, 2, 6, 6)), 2, 3)], kernel_shape=[2, 2], count_include_pad=1)
    b.output(norm(b, y, 3))


@CASES.folds(Conv=1, AveragePool=1)
def norm_after_average_pool_whose_padding_does_not_count(b: GraphBuilder) -> None:
    y = conv(b, b.input((1, 2, 6, 6)), 2, 3)
    y = b.node("AveragePool", [y], kernel_shape=[2, 2], pads=[1, 1, 0, 0], count_include_pad=0)
    b.output(norm(b, y, 3))


@CASES.folds(Conv=1, ReduceMean=1)
def norm_after_a_mean_over_axes_counted_from_the_end(b: GraphBuilder) -> None:
    axes = b.const(np.array([-1, -2], np.int64), keep_type=True)
    y = b.node("ReduceMean", [conv(b, b.input((1, 2, 6, 5)), 2, 3), axes], keepdims=0)
    b.output(norm(b, y, 3, rank=2))


@CASES.folds(Conv=1, GlobalAveragePool=1)
def norm_after_global_average_pool(b: GraphBuilder) -> None:
    b.output(norm(b, b.node("GlobalAveragePool", [conv(b, b.input((1, 2, 6, 6)), 2, 3)]), 3))


@CASES.folds(Conv=2, ConvTranspose=1, Concat=1)
def norm_after_concat_of_three_producers(b: GraphBuilder) -> None:
    x = b.input((1, 2, 4, 4))
    parts = [conv(b, x, 2, 3, (1, 1)), b.node("ConvTranspose", [x, b.const(weights(2, 2, 1, 1))])]
    parts.append(conv(b, x, 2, 1, (3, 3), pads=[1, 1, 1, 1]))
    b.output(norm(b, b.node("Concat", parts, axis=1), 6))


@CASES.folds(Conv=2, Concat=1)
def norm_after_concat_counted_from_the_end(b: GraphBuilder) -> None:
    x = b.input((1, 2, 4, 4))
    parts = [conv(b, x, 2, 3, (1, 1)), conv(b, x, 2, 2, (1, 1))]
    b.output(norm(b, b.node("Concat", parts, axis=-3), 5, form="naive"))


@CASES.folds(Conv=2, Add=1)
def norm_after_add_of_two_convs(b: GraphBuilder) -> None:
    x = b.input((1, 2, 5, 5))
    b.output(norm(b, b.node("Add", [conv(b, x, 2, 3), conv(b, x, 2, 3, bias=False)]), 3))


@CASES.folds(Conv=3, Add=1, Concat=1, AveragePool=1)
def norm_after_concat_of_an_add_and_a_pool(b: GraphBuilder) -> None:
    x = b.input((1, 2, 5, 5))
    total = b.node("Add", [conv(b, x, 2, 3), conv(b, x, 2, 3)])
    pooled = b.node("AveragePool", [conv(b, x, 2, 2, (2, 2))], kernel_shape=[2, 2])
    b.output(norm(b, b.node("Concat", [total, pooled], axis=1), 5))


# ---- into the consumer --------------------------------------------------------------------------------------------


def _then_conv(form: str, sides: int, bias: bool, b: GraphBuilder) -> None:
    x = b.input((2, 2, *[4, 5, 3][:sides]))
    y = norm(b, x, 2, sides + 2, form)
    b.output(conv(b, y, 2, 3, (3, 2, 2)[:sides], bias=bias))


for _form in FORMS:
    for _sides, _bias in ((1, True), (2, False), (2, True), (3, False)):
        _name = f"{_form}_before_{_sides}d_conv_{'with' if _bias else 'without'}_bias"
        CASES.add(_name, partial(_then_conv, _form, _sides, _bias), Conv=1)


@CASES.folds(Conv=1)
def norm_before_grouped_strided_dilated_conv(b: GraphBuilder) -> None:
    y = norm(b, b.input((1, 4, 7, 7)), 4)
    b.output(conv(b, y, 4, 6, group=2, strides=[2, 1], dilations=[1, 2], auto_pad="VALID"))


@CASES.folds(Conv=1)
def norm_before_1x1_conv_whose_automatic_padding_is_none(b: GraphBuilder) -> None:
    b.output(conv(b, norm(b, b.input((1, 2, 4, 4)), 2), 2, 3, (1, 1), auto_pad="SAME_UPPER"))


@CASES.folds(MatMul=1, Add=1)
def norm_before_matmul_and_bias(b: GraphBuilder) -> None:
    y = b.node("MatMul", [norm(b, b.input((2, 4)), 4, rank=2), b.const(weights(4, 3))])
    b.output(b.node("Add", [b.const(bias_like(3)), y]))


@CASES.folds(Pad=1, Conv=1)
def norm_before_reflecting_pad_and_conv(b: GraphBuilder) -> None:
    y = norm(b, b.input((1, 2, 4, 4)), 2)
    pads = b.const(np.array([0, 0, 1, 1, 0, 0, 1, 0], np.int64), keep_type=True)
    b.output(conv(b, b.node("Pad", [y, pads], mode="reflect"), 2, 3))


def _then_gemm(trans_b: int, with_c: bool, alpha: float, beta: float, b: GraphBuilder) -> None:
    shape = (3, 4) if trans_b else (4, 3)
    operands = [norm(b, b.input((2, 4)), 4, rank=2), b.const(weights(*shape), "weight")]
    operands += [b.const(bias_like(3), "bias")] if with_c else []
    b.output(b.node("Gemm", operands, transB=trans_b, alpha=alpha, beta=beta))


for _trans in (0, 1):
    for _with_c in (False, True):
        for _alpha, _beta in ((1.0, 1.0), (0.5, -2.0)):
            _name = f"norm_before_gemm_transB_{_trans}_{'with' if _with_c else 'without'}_c_alpha_{_alpha}"
            CASES.add(_name, partial(_then_gemm, _trans, _with_c, _alpha, _beta), Gemm=1)


@CASES.folds(Conv=2, Relu=1)
def norms_before_and_after_convs_of_one_network(b: GraphBuilder) -> None:
    y = norm(b, b.input((1, 2, 6, 6)), 2)
    y = b.node("Relu", [norm(b, conv(b, y, 2, 3), 3, form="batchnorm")])
    b.output(norm(b, conv(b, y, 3, 2, pads=[1, 1, 1, 1]), 2, form="divided"))
