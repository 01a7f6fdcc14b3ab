"""Into a product of a tensor and a constant weight: an Einsum, or a MatMul whose weight comes first or is a stack.

With letters for axes, z = einsum("x-axes,w-axes->z-axes", x, w), whichever of the two comes first.
Behind it, with the norm along an axis of z that the weight has:
    A*z + B = einsum(x, A*w) + B.
Before it, with the norm along an axis of x that the weight has:
    einsum(A*x + B, w) = einsum(x, A*w) + einsum(B, w), the last a constant along the axes that w gives to z.

Refuses: a product of more than two, a weight that is not constant or is shared, one letter twice in a term, an axis of
the norm that the weight has not, or as one number for all; and of B, sums over axes that the weight has not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from normexport.folding.edits import AppendAdd, Retire, Rewrite, constant_edit, float_type, together
from normexport.folding.einsum import letters_of
from normexport.folding.graph import Draft
from normexport.folding.into_consumer import RULE as BEFORE
from normexport.folding.into_producer import RULE as BEHIND
from normexport.folding.operands import operands
from normexport.folding.per_channel import Array, PerChannel
from normexport.graphs.nodes import label, name_of, op, readers, required
from normexport.graphs.refusal import Refuse

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, eq=False)
class _Product:
    """z = einsum(x, w): `place` is the weight's input, the terms are the letters of the axes of each."""

    node: ir.Node
    place: int
    weight: Array
    x_axes: str
    w_axes: str
    z_axes: str

    @property
    def value(self) -> ir.Value:
        """The weight."""
        return required(self.node, self.place)


def is_product(node: ir.Node, draft: Draft) -> bool:
    """Whether a node is an Einsum, or a MatMul with a weight of another form than (K, C) behind the tensor."""
    if op(node) == "Einsum":
        return True
    if op(node) != "MatMul" or len(node.inputs) != 2 or node.inputs[1] is None:
        return False
    first, second = (each in draft.constants for each in node.inputs)
    return first != second and (first or (draft.shapes.rank(node.inputs[1]) or 0) > 2)


def into_behind(node: ir.Node, norm: PerChannel, draft: Draft) -> Rewrite:
    """The norm of what the product makes."""
    product = _read(node, draft)
    rewrites, shift = [_scaled(product, product.z_axes, norm, draft)], norm.b
    if norm.channels > 1:
        shift = norm.b.reshape(-1, *(1,) * (len(product.z_axes) - norm.axis - 1))
    return _with_shift(product, shift, rewrites, draft).under(BEHIND, f"scaled into {label(node)}")


def into_before(node: ir.Node, index: int, norm: PerChannel, draft: Draft) -> Rewrite:
    """The norm of what the product reads as operand `index`."""
    product = _read(node, draft)
    if index == product.place:
        raise Refuse(f"{label(node)} reads it as operand {index}")
    rewrites = [_scaled(product, product.x_axes, norm, draft)]
    shift = _shift(product, norm, draft) if norm.shifts else np.zeros(())
    joined = _into_bias_add(product, shift, draft) if np.any(shift) else None
    rewrite = _with_shift(product, shift, rewrites, draft) if joined is None else together("", "", [*rewrites, joined])
    return rewrite.under(BEFORE, f"folded forward into {label(node)}")


def _read(node: ir.Node, draft: Draft) -> _Product:
    constant = [place for place, value in enumerate(node.inputs) if value in draft.constants]
    if len(node.inputs) != 2 or len(constant) != 1:
        raise Refuse(f"{label(node)} is no product of a tensor and a constant")
    place = constant[0]
    weight = draft.constants.weight(required(node, place), node)
    rank = draft.shapes.rank(required(node, 1 - place))
    if rank is None:
        raise Refuse(f"the rank of '{required(node, 1 - place).name}' ({label(node)}) is unknown")
    ranks = (rank, weight.ndim) if place else (weight.ndim, rank)
    terms = letters_of(node, ranks) if op(node) == "Einsum" else _letters_of_matmul(ranks)
    if terms is None or any(len(set(term)) < len(term) for term in terms):
        raise Refuse(f"the equation of {label(node)} is not of tensors whose axes all differ")
    return _Product(node, place, weight, terms[1 - place], terms[place], terms[2])


def _letters_of_matmul(ranks: tuple[int, int]) -> list[str] | None:
    if min(ranks) < 2 or max(ranks) > len(_LETTERS) - 3:
        return None
    stack = _LETTERS[: max(ranks) - 2]
    first, second = (stack[len(stack) - rank + 2 :] for rank in ranks)
    return [f"{first}xy", f"{second}yz", f"{stack}xz"]


def _scaled(product: _Product, axes: str, norm: PerChannel, draft: Draft) -> Rewrite:
    """The weight times A, where `axes` are those of the tensor that the norm is of."""
    node, weight, factor, index = product.node, product.weight, norm.a, np.zeros(1, np.int64)
    if norm.channels > 1:
        letter = axes[norm.axis]
        place = product.w_axes.find(letter)
        if place < 0 or weight.shape[place] != norm.channels:
            raise Refuse(f"the weight of {label(node)} has no number for each channel of axis {norm.axis}")
        shape = tuple(-1 if each == letter else 1 for each in product.w_axes)
        factor, index = norm.a.reshape(shape), np.arange(norm.channels).reshape(shape)
    value = product.value
    return constant_edit(node, product.place, weight * factor, index, value, value.name or "", draft)


def _shift(product: _Product, norm: PerChannel, draft: Draft) -> Array:
    """einsum(B, w), of a shape that broadcasts to what the product makes."""
    x_axes, w_axes, z_axes = product.x_axes, product.w_axes, product.z_axes
    tensor = required(product.node, 1 - product.place)
    for axis, letter in enumerate(x_axes):
        size = product.weight.shape[w_axes.index(letter)] if letter in w_axes else 1
        if letter not in z_axes and size == 1 != draft.shapes.size(tensor, axis):
            raise Refuse(f"{label(product.node)} sums over axis {axis}, for which its weight has no numbers")
    letter = x_axes[norm.axis] if norm.channels > 1 else ""
    kept = "".join(each for each in z_axes if each in w_axes)
    b = norm.b if letter else norm.b[0]
    summed = np.einsum(f"{letter},{w_axes}->{kept}", b, product.weight)
    sizes = dict(zip(kept, summed.shape, strict=True))
    shape = [sizes.get(each, 1) for each in z_axes]
    front = next((axis for axis, size in enumerate(shape) if size != 1), len(shape))
    return np.asarray(summed, np.float64).reshape(shape[front:])


def _with_shift(product: _Product, shift: Array, rewrites: list[Rewrite], draft: Draft) -> Rewrite:
    """The rewrites, and an Add of `shift` behind the product where it is not zero."""
    rewrite = together("", "", rewrites)
    if not np.any(shift):
        return rewrite
    node, weight = product.node, product.value
    index = np.arange(shift.size).reshape(shift.shape)
    check = constant_edit(node, product.place, shift, index, weight, f"{name_of(node)}.bias", draft)
    add = AppendAdd(node.outputs[0], shift, float_type(weight, draft))
    return Rewrite("", "", (*rewrite.edits, add), (*rewrite.hazards, *check.hazards), rewrite.added + 1)


def _into_bias_add(product: _Product, shift: Array, draft: Draft) -> Rewrite | None:
    """A rewrite that adds `shift` to the bias Add right behind the product, None where there is none that takes it."""
    output = product.node.outputs[0]
    uses = readers(output)
    if len(uses) != 1 or output.is_graph_output() or op(uses[0].node) != "Add" or uses[0].node.graph is not draft.graph:
        return None
    add = uses[0].node
    found = operands(add, draft)
    wide = [axis - shift.ndim for axis, size in enumerate(shift.shape) if size != 1]
    if found is None or len(wide) > 1:
        return None
    rank = len(product.z_axes)
    axis = rank + wide[0] if wide else found.axis
    if not found.lies_on(axis) or not {len(found.values), shift.size} <= {1, draft.shapes.size(output, axis)}:
        return None
    shape = (-1,) + (1,) * (rank - axis - 1)
    array = (found.values + shift.reshape(-1)).reshape(shape)
    old = required(add, found.constant)
    index = np.arange(array.size).reshape(shape)
    rewrite = constant_edit(add, found.constant, array, index, old, old.name or "", draft)
    return rewrite.under("", "", Retire(output))
