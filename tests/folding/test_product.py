"""Norms before and behind products of a tensor and a constant: an Einsum, a MatMul whose weight comes first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.folding.build import GraphBuilder
from tests.folding.graphs import A, B, array, folded, int64, operand, operators, refusal, running, scaling

SIZES = {"n": 2, "h": 3, "w": 2, "c": 4, "o": 5, "k": 3, "g": 2}
LAYERS = (
    ("nchw,oc->nohw", "c", "o"),
    ("gnc,oc->gno", "c", "o"),
    ("nhc,ck->nhk", "c", "k"),
    ("nhwc,hco->nhwo", "c", "o"),  # a matrix for each head
    ("nhwc,hco->nhwo", "h", "h"),
    ("nhwc,hco->onhw", "c", "o"),
    ("nhwc,co->nwho", "c", "o"),
    ("nch,cok->noh", "c", "o"),  # k is summed over in the weight alone
    ("nchw,oc->no", "c", "o"),  # h and w are summed over in the tensor alone
    ("nc,co->n", "c", ""),  # no channels are left
    ("n...c,co->n...o", "c", "o"),
    ("...c,co->...o", "c", "o"),
    ("nch...,oc->no...h", "c", "o"),
)


def product(b: GraphBuilder, equation: str, x: str, weight_first: bool, w: np.ndarray) -> str:
    terms, result = equation.split("->")
    first, second = terms.split(",")
    operands, terms = [x, b.const(w, "weight")], f"{first},{second}"
    if weight_first:
        operands, terms = operands[::-1], f"{second},{first}"
    return b.node("Einsum", operands, equation=f"{terms}->{result}")


def shaped(term: str) -> tuple[int, ...]:
    return tuple(SIZES[letter] for letter in term.replace("...", "w"))


def map_on(b: GraphBuilder, x: str, rank: int, axis: int, channels: int, shifts: bool = True) -> str:
    """A*x + B along an axis."""
    shape = (-1, *[1] * (rank - axis - 1))
    x = b.node("Mul", [x, b.const(A[:channels].reshape(shape))])
    return b.node("Add", [x, b.const(B[:channels].reshape(shape))]) if shifts else x


def expected(equation: str, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return np.asarray(np.einsum(equation, x, w))


@pytest.mark.parametrize("weight_first", [False, True])
@pytest.mark.parametrize(("equation", "letter", "_"), LAYERS)
def test_a_scale_before_it_goes_into_the_weight(equation: str, letter: str, _: str, weight_first: bool) -> None:
    b, term = GraphBuilder(), equation.split(",")[0].replace("...", "w")
    w = array(*shaped(equation.split("->")[0].split(",")[1]))
    y = map_on(b, b.input(shaped(term)), len(term), term.index(letter), SIZES[letter], shifts=False)
    result = folded(b, product(b, equation, y, weight_first, w))
    assert operators(result) == ["Einsum"]
    place = equation.split("->")[0].split(",")[1].index(letter)
    shape = [-1 if axis == place else 1 for axis in range(w.ndim)]
    got = operand(result, "Einsum", 0 if weight_first else 1)
    np.testing.assert_allclose(got, w * A[: SIZES[letter]].reshape(shape), rtol=1e-14)


@pytest.mark.parametrize(("equation", "letter", "_"), [each for each in LAYERS if each[0] != "nchw,oc->no"])
def test_a_shift_before_it_becomes_one_add_behind_it(equation: str, letter: str, _: str) -> None:
    b, term = GraphBuilder(), equation.split(",")[0].replace("...", "w")
    w = array(*shaped(equation.split("->")[0].split(",")[1]))
    y = map_on(b, b.input(shaped(term)), len(term), term.index(letter), SIZES[letter])
    result = folded(b, product(b, equation, y, False, w))
    assert operators(result) == ["Einsum", "Add"]


@pytest.mark.parametrize("weight_first", [False, True])
@pytest.mark.parametrize(("equation", "_", "letter"), [each for each in LAYERS if each[2]])
def test_a_norm_behind_it_goes_into_the_weight(equation: str, _: str, letter: str, weight_first: bool) -> None:
    b, term, result_term = GraphBuilder(), equation.split(",")[0], equation.split("->")[1].replace("...", "w")
    w_term = equation.split("->")[0].split(",")[1]
    w = array(*shaped(w_term))
    y = product(b, equation, b.input(shaped(term)), weight_first, w)
    y = map_on(b, y, len(result_term), result_term.index(letter), SIZES[letter])
    result = folded(b, b.node("Relu", [y]))
    assert operators(result) == ["Einsum", "Add", "Relu"]
    shape = [-1 if each == letter else 1 for each in w_term]
    got = operand(result, "Einsum", 0 if weight_first else 1)
    np.testing.assert_allclose(got, w * A[: SIZES[letter]].reshape(shape), rtol=1e-14)


def test_the_bias_behind_an_einsum_takes_the_shift_before_it() -> None:
    b, w = GraphBuilder(), array(5, 4)
    y = product(b, "nchw,oc->nohw", map_on(b, b.input((2, 4, 3, 2)), 4, 1, 4), False, w)
    result = folded(b, b.node("Relu", [b.node("Add", [y, b.const(array(5, 1, 1))])]))
    assert operators(result) == ["Einsum", "Add", "Relu"]
    np.testing.assert_allclose(operand(result, "Add", 1), array(5, 1, 1) + (w @ B[:4]).reshape(5, 1, 1), rtol=1e-12)


def test_a_norm_behind_it_and_its_bias_goes_into_both() -> None:
    b, w = GraphBuilder(), array(4, 2)
    y = b.node("Add", [product(b, "nchw,oc->nohw", b.input((2, 2, 3, 2)), False, w), b.const(array(4, 1, 1))])
    result = folded(b, b.node("Relu", [running(b, y, 4)]))
    assert operators(result) == ["Einsum", "Add", "Relu"]
    np.testing.assert_allclose(operand(result, "Einsum", 1), w * A[:4, None], rtol=1e-14)


@pytest.mark.parametrize("shape", [(3, 2), (1, 3, 2), (2, 3, 2)])
def test_a_matmul_whose_weight_comes_first_is_a_linear_layer_of_axis_1(shape: tuple[int, ...]) -> None:
    b, w = GraphBuilder(), array(*shape)
    y = b.node("MatMul", [b.const(w, "weight"), b.input((2, 2, 5))])
    result = folded(b, b.node("Relu", [running(b, y, 3)]))
    assert operators(result) == ["MatMul", "Add", "Relu"]
    np.testing.assert_allclose(operand(result, "MatMul", 0), w * A[:3, None], rtol=1e-14)


@pytest.mark.parametrize("shape", [(3, 2), (1, 3, 2), (2, 3, 2)])
def test_a_norm_before_a_matmul_whose_weight_comes_first_folds(shape: tuple[int, ...]) -> None:
    b, w = GraphBuilder(), array(*shape)
    y = b.node("MatMul", [b.const(w, "weight"), running(b, b.input((2, 2, 5)), 2)])
    result = folded(b, y)
    assert operators(result) == ["MatMul", "Add"]
    np.testing.assert_allclose(operand(result, "MatMul", 0), w * A[:2], rtol=1e-14)


@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 4, 5), (2, 1, 4, 5), (2, 3, 4, 5)])
def test_a_matmul_of_a_stack_of_matrices_takes_norms_of_its_last_axis(shape: tuple[int, ...]) -> None:
    b, w = GraphBuilder(), array(*shape)
    y = b.node("MatMul", [scaling(b, b.input((2, 3, 2, 4)), 4, 2), b.const(w, "weight")])
    y = b.node("Relu", [map_on(b, y, 4, 3, 5)])
    result = folded(b, y)
    assert operators(result) == ["MatMul", "Add", "Relu"]
    np.testing.assert_allclose(operand(result, "MatMul", 1), w * A[:4, None] * A[:5], rtol=1e-13)


def test_a_stack_of_matrices_takes_a_norm_of_its_heads() -> None:
    b, w = GraphBuilder(), array(3, 4, 5)
    result = folded(b, b.node("MatMul", [running(b, b.input((2, 3, 2, 4)), 3), b.const(w)]))
    assert operators(result) == ["MatMul", "Add"]
    np.testing.assert_allclose(operand(result, "MatMul", 1), w * A[:3, None, None], rtol=1e-14)


@pytest.mark.parametrize(
    ("equation", "w", "says"),
    [
        ("nchw,hk->nckw", (3, 2), "has no number for each channel of axis 1"),  # another axis than the norm's
        ("nchw,oc->no", (5, 4), "sums over axis 2, for which its weight has no numbers"),
        ("nccw,oc->now", (5, 4), "is not of tensors whose axes all differ"),
        ("nchw,occ->nohw", (5, 4, 4), "is not of tensors whose axes all differ"),
        ("nchw,oc->nohw", (5, 1), "has no number for each channel of axis 1"),  # one number for all
    ],
)
def test_a_norm_before_it_that_has_no_place_refuses(equation: str, w: tuple[int, ...], says: str) -> None:
    b = GraphBuilder()
    x = b.input((2, 4, 4, 3) if "cc" in equation else (2, 4, 3, 2))
    reason = refusal(b, product(b, equation, running(b, b.node("Relu", [x]), 4), False, array(*w)))
    assert says in reason


@pytest.mark.parametrize(
    ("equation", "w", "says"),
    [
        ("nchw,hk->nckw", (3, 2), "has no number for each channel of axis 1"),
        ("nchw,oc->chno", (5, 4), "has no number for each channel of axis 1"),
    ],
)
def test_a_norm_behind_it_that_has_no_place_refuses(equation: str, w: tuple[int, ...], says: str) -> None:
    b = GraphBuilder()
    y = product(b, equation, b.input((2, 4, 3, 2)), False, array(*w))
    assert says in refusal(b, b.node("Relu", [running(b, y, 3 if "chno" in equation else 4)]))


def test_a_weight_that_two_products_share_refuses() -> None:
    b = GraphBuilder()
    x, w = b.input((2, 4, 3, 2)), b.const(array(5, 4), "weight")
    y = b.node("Einsum", [scaling(b, b.node("Relu", [x]), 4), w], equation="nchw,oc->nohw")
    z = b.node("Einsum", [x, w], equation="nchw,oc->nohw")
    assert "is shared: it also feeds" in refusal(b, b.node("Add", [y, z]))


def test_a_product_of_two_tensors_or_of_three_values_refuses() -> None:
    b = GraphBuilder()
    x = b.node("Relu", [b.input((2, 4, 3, 2))])
    reason = refusal(b, b.node("Einsum", [running(b, x, 4), x], equation="nchw,nchw->nhw"))
    assert "is no product of a tensor and a constant" in reason
    b = GraphBuilder()
    x = b.node("Relu", [b.input((2, 4, 3, 2))])
    y = b.node("Einsum", [running(b, x, 4), b.const(array(5, 4)), b.const(array(5))], equation="nchw,oc,o->nohw")
    assert "is no product of a tensor and a constant" in refusal(b, y)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_product_with_maps_around_it_computes_the_same(data: st.DataObject) -> None:
    """Random equations of distinct letters; the witness is onnx.reference, by name, in `check_fold`."""
    letters = data.draw(st.permutations("nhwck"))
    x_axes = "".join(letters[: data.draw(st.integers(2, 4))])
    w_axes = "".join(data.draw(st.permutations("hwckog"))[: data.draw(st.integers(1, 4))])
    every = sorted(set(x_axes) | set(w_axes))
    z_axes = "".join(data.draw(st.permutations(every))[: data.draw(st.integers(2, 4))])
    b = GraphBuilder()
    y = b.input(tuple(SIZES[each] for each in x_axes))
    ones = data.draw(st.sets(st.sampled_from(w_axes), max_size=1)) if data.draw(st.integers(0, 3)) == 0 else set()
    ones &= set(x_axes)  # numpy's einsum takes an axis of 1 beside a longer one of the other operand
    w = array(*(1 if each in ones else SIZES[each] for each in w_axes))
    if data.draw(st.booleans()):
        axis = data.draw(st.integers(0, len(x_axes) - 1))
        y = map_on(b, y, len(x_axes), axis, SIZES[x_axes[axis]], shifts=data.draw(st.booleans()))
    y = product(b, f"{x_axes},{w_axes}->{z_axes}", y, data.draw(st.booleans()), w)
    if data.draw(st.booleans()):
        axis = data.draw(st.integers(0, len(z_axes) - 1))
        y = map_on(b, y, len(z_axes), axis, SIZES[z_axes[axis]])
    if data.draw(st.booleans()):
        axis = data.draw(st.integers(0, len(z_axes) - 1))
        y = b.node("Add", [y, b.const(B[: SIZES[z_axes[axis]]].reshape(-1, *[1] * (len(z_axes) - axis - 1)))])
    folded(b, y)


def test_a_norm_behind_a_layout_and_an_einsum_folds() -> None:
    b, w = GraphBuilder(), array(4, 2)
    y = product(b, "nchw,oc->nohw", b.input((2, 2, 3, 2)), False, w)
    y = running(b, b.node("Reshape", [y, int64(b, 0, 4, -1)]), 4)
    assert operators(folded(b, b.node("Relu", [y]))) == ["Einsum", "Add", "Reshape", "Relu"]
