"""Graphs of norms around products: Einsum, and MatMul in other forms than a linear layer's."""

from __future__ import annotations

import numpy as np

from tests.folding.build import GraphBuilder, bias_like
from tests.folding.case import Cases, norm, weights

CASES = Cases()


@CASES.folds(Einsum=1, Add=1)
def norm_after_an_einsum_of_channels_first(b: GraphBuilder) -> None:
    y = b.node("Einsum", [b.input((2, 2, 4, 3)), b.const(weights(3, 2), "weight")], equation="nchw,oc->nohw")
    b.output(norm(b, y, 3))


@CASES.folds(Einsum=1, Add=1)
def norm_before_an_einsum_and_its_bias(b: GraphBuilder) -> None:
    y = norm(b, b.input((2, 3, 4, 3)), 3)
    y = b.node("Einsum", [b.const(weights(2, 3), "weight"), y], equation="oc,nchw->nohw")
    b.output(b.node("Add", [y, b.const(bias_like(2).reshape(2, 1, 1))]))


@CASES.folds(Einsum=1, Add=1)
def norm_of_heads_before_an_einsum_with_a_matrix_for_each(b: GraphBuilder) -> None:
    y = norm(b, b.input((2, 3, 4, 2)), 3)
    b.output(b.node("Einsum", [y, b.const(weights(3, 2, 5), "weight")], equation="nhwc,hco->nhwo"))


@CASES.folds(MatMul=1, Add=1)
def norm_before_a_matmul_whose_weight_comes_first(b: GraphBuilder) -> None:
    b.output(b.node("MatMul", [b.const(weights(3, 3), "weight"), norm(b, b.input((2, 3, 3)), 3, 3)]))


@CASES.folds(MatMul=1, Add=1)
def norm_after_a_matmul_whose_weight_comes_first(b: GraphBuilder) -> None:
    b.output(norm(b, b.node("MatMul", [b.const(weights(3, 3), "weight"), b.input((2, 3, 3))]), 3, 3))


@CASES.refuses(says="sums over axis 2, for which its weight has no numbers")
def norm_before_an_einsum_that_sums_what_its_weight_has_not(b: GraphBuilder) -> None:
    y = norm(b, b.node("Relu", [b.input((2, 3, 4, 2))]), 3)
    b.output(b.node("Einsum", [y, b.const(weights(5, 3), "weight")], equation="nchw,oc->no"))


@CASES.refuses(says="has no number for each channel of axis 1")
def norm_before_an_einsum_with_one_number_for_all_channels(b: GraphBuilder) -> None:
    y = norm(b, b.node("Relu", [b.input((2, 3, 4, 2))]), 3)
    b.output(b.node("Einsum", [y, b.const(np.ones((5, 1)), "weight")], equation="nchw,oc->nohw"))
