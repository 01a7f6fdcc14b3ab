"""Values that are the same at every inference, evaluated once: floats in float64, whole numbers in their own type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from normexport.dtypes import of_onnx
from normexport.errors import FoldError
from normexport.folding import constant_norms, reference_ops
from normexport.folding.allowance import Allowance
from normexport.folding.constant_ops import OPERATORS, elements, widen
from normexport.folding.per_channel import Array
from normexport.graphs.nodes import label, op
from normexport.graphs.refusal import Refuse
from normexport.io.onnx_domain import opset_in

_RANDOM = ("Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomUniform")
_EVALUATED = {*OPERATORS, *reference_ops.OPERATORS, *constant_norms.OPERATORS}
_WHOLE = 1 << 8  # bfloat16 holds all whole numbers up to here
_CONSTANT_FIELDS = ("value", "value_float", "value_floats", "value_int", "value_ints")


class Constants:
    """Knows which values of the main graph are constant, and their arrays (float64, or of a whole type) when asked.

    A constant is an initializer that no caller can override (not also a graph input), the output of a Constant
    node, or computed from constants by the operators of `evaluate`. Arrays must not be written to. How much is
    computed and kept is limited by what is stored (`Allowance`): what a few bytes expand to is left to inference.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._constant: set[ir.Value] = {
            value
            for value in graph.initializers.values()
            if value.const_value is not None and not value.is_graph_input()
        }
        self._arrays: dict[ir.Value, Array] = {}  # those used last come last
        self._held = 0  # bytes of these
        self._refused: dict[ir.Value, Refuse] = {}
        self.captured: frozenset[ir.Value] = frozenset()  # stand for what lies around a branch or a loop
        self.shared: frozenset[ir.Value] = frozenset()  # of these, what is read there too
        self._exact: set[ir.Value] = set()  # evaluated ones that no arithmetic has rounded
        self._opset = opset_in(graph.opset_imports)
        stored = sum(value.const_value.nbytes for value in self._constant if value.const_value is not None)
        self._fixed = set(self._constant)  # constant or not: what depends on no input
        for node in graph:
            self._classify(node)
            stored += _stored_bytes(node)
        self._allowance = Allowance(stored)

    def _classify(self, node: ir.Node) -> None:
        stored = op(node) == "Constant" and any(field in node.attributes for field in _CONSTANT_FIELDS)
        computed = op(node) in _EVALUATED and bool(node.inputs)
        if stored or (computed and all(i is None or i in self._constant for i in _read_by(node))):
            self._constant.update(node.outputs)
        if (
            op(node) not in _RANDOM
            and not _holds_graphs(node)
            and all(i is None or i in self._fixed for i in node.inputs)
        ):
            self._fixed.update(node.outputs)

    def is_fixed(self, value: ir.Value) -> bool:
        """Whether the value is the same at every inference, be it by operators that are not evaluated."""
        return value in self._fixed or value in self._constant

    def __contains__(self, value: ir.Value | None) -> bool:
        return value in self._constant

    def remember(self, value: ir.Value, array: Array) -> None:
        """A new initializer and the float64 array it was rounded from, so that folding twice rounds once."""
        self._constant.add(value)
        self._keep(value, array)

    def forget(self, value: ir.Value) -> None:
        """The value has left the graph."""
        self._constant.discard(value)
        self._drop(value)

    def array(self, value: ir.Value | None) -> Array:
        """The constant's array.

        Raises:
            Refuse: the value is absent, not constant, or of a type that is not evaluated.
        """
        if value is None:
            raise Refuse("an input is absent")
        if value not in self._constant:
            raise Refuse(self.why_not(value))
        # An explicit stack: chains of constants may be longer than Python's recursion limit.
        pending = [value]
        while pending:
            current = pending[-1]
            missing = [each for each in self._sources(current) if each not in self._arrays]
            if current not in self._arrays and not missing:
                self._compute(current, pending)
            if current in self._refused:
                raise self._refused[current]
            pending = pending[:-1] if current in self._arrays else [*pending, *missing]
        self._keep(value, self._arrays[value])  # as the one used last
        return self._arrays[value]

    def _compute(self, value: ir.Value, pending: list[ir.Value]) -> None:
        """Evaluate one value whose sources are there; all of `pending` wait for it."""
        try:
            self._evaluate(value)
            if self._held > self._allowance.held:
                needed = {source for waiting in pending for source in self._sources(waiting)}
                self._let_go(needed | {value})
        except Refuse as refusal:
            self._refused.update(dict.fromkeys(pending, refusal))  # so that nobody walks down here again

    def _let_go(self, needed: set[ir.Value]) -> None:
        """Forget arrays that are not needed at this moment, those used longest ago first: they can be had again."""
        for value in [each for each in self._arrays if each not in needed]:
            if self._held <= self._allowance.held:
                return
            self._drop(value)
        self._allowance.check_kept(self._held)

    def _keep(self, value: ir.Value, array: Array) -> None:
        self._drop(value)
        self._arrays[value] = array
        self._held += array.nbytes

    def _drop(self, value: ir.Value) -> None:
        array = self._arrays.pop(value, None)
        self._held -= array.nbytes if array is not None else 0

    def check_room(self, count: int, what: str) -> None:
        """Take `count` numbers to be computed from constants elsewhere.

        Raises:
            Refuse: a model of this size may not make so many.
        """
        self._allowance.compute(count, what)

    def weight(self, value: ir.Value, reader: ir.Node) -> Array:
        """The array of a weight that belongs to `reader` alone.

        Neither the weight nor anything of its size that it is computed from may feed another node. Smaller
        operands on the way (factors, shapes) may: exporters merge equal small constants.

        Raises:
            Refuse: the weight is not constant, or it is shared.
        """
        array = self.array(value)
        carriers, family = self._carriers(value, array.size)
        for carrier in carriers:
            # Who asks for the shape of a weight does not mind its values, and a fold keeps the shape.
            uses = [use for use in carrier.uses() if op(use.node) != "Shape"]
            others = [label(use.node) for use in uses if use.node not in family and use.node is not reader]
            if carrier is value and len(uses) > 1 and not others:
                others = [f"input {use.idx} of {label(use.node)}" for use in uses if use.idx != 1]
            if carrier in self.shared:
                raise Refuse(f"the weight '{carrier.name}' of {label(reader)} is shared: it is also read outside")
            if carrier.is_graph_output():
                raise Refuse(f"the weight '{carrier.name}' of {label(reader)} is also a graph output")
            if others:
                also = ", ".join(dict.fromkeys(others))
                raise Refuse(f"the weight '{carrier.name}' of {label(reader)} is shared: it also feeds {also}")
        return array

    def _carriers(self, weight: ir.Value, size: int) -> tuple[list[ir.Value], set[ir.Node]]:
        """Values of at least `size` elements that the weight is computed from (itself first), and the nodes between."""
        carriers: dict[ir.Value, None] = {}
        family: set[ir.Node] = set()
        pending = [weight]
        while pending:
            value = pending.pop()
            if self._arrays[value].size >= size:
                carriers[value] = None
            node = value.producer()
            if node is not None and node not in family and op(node) != "Shape":
                family.add(node)
                pending += self._sources(value)
        return list(carriers), family

    def why_not(self, value: ir.Value) -> str:
        """Why a value is not a constant, in words."""
        node = value.producer()
        if value in self.captured:
            return f"'{value.name}' comes from around the branch or loop"
        if value.is_graph_input():
            if value.is_initializer():
                return f"'{value.name}' is also a graph input, so a caller may override it unless --fixed-weights"
            return f"'{value.name}' is a graph input, not a constant"
        if node is None:
            return f"'{value.name}' has no stored values"
        if op(node) in ("DequantizeLinear", "QuantizeLinear"):
            return f"'{value.name}' comes from fake-quantisation ({label(node)}); fold before quantising"
        return f"'{value.name}' is computed at inference by {label(node)}"

    def _sources(self, value: ir.Value) -> list[ir.Value]:
        node = value.producer()
        if node is None or op(node) == "Constant":
            return []
        return [each for each in _read_by(node) if each is not None]

    def _evaluate(self, value: ir.Value) -> None:
        """Keep the value's array, and those of the other outputs of its node."""
        node = value.producer()
        if node is None or op(node) == "Constant":
            self._keep(value, self._stored(value, node))
            self._exact.add(value)
            return
        read = _read_by(node)
        exact = all(each is None or each in self._exact for each in read)
        if op(node) in reference_ops.JUMPS and not exact and not _is_smooth_cast(value, node):
            raise Refuse(f"{label(node)} hangs on the last digit of what was computed")
        try:
            results = self._computed(node, [None if each is None else self._arrays[each] for each in read])
        except (ValueError, TypeError, IndexError, OverflowError, ZeroDivisionError) as error:
            raise Refuse(f"{label(node)} can't be evaluated: {error}") from error
        for output, array in zip(node.outputs, results, strict=False):
            self._keep(output, array)
            kept = op(node) in reference_ops.EXACT or (op(node) in reference_ops.WHOLE and _is_whole(array))
            if array.dtype.kind != "f" or (exact and kept):
                self._exact.add(output)

    def _stored(self, value: ir.Value, node: ir.Node | None) -> Array:
        if node is None:
            assert value.const_value is not None
            self._allowance.read(value.const_value.size, f"'{value.name}'")
            return widen(_read_constant(value))
        self._allowance.read(_size(node), label(node))
        return widen(_read_attribute(node))

    def _computed(self, node: ir.Node, inputs: Sequence[Any]) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            if op(node) in OPERATORS:
                self._allowance.compute(elements(node, inputs), label(node))
                return (OPERATORS[op(node)](node, inputs),)
            if op(node) in constant_norms.OPERATORS:
                self._allowance.compute(constant_norms.elements(inputs), label(node))
                return (constant_norms.OPERATORS[op(node)](node, inputs),)
            self._allowance.compute(reference_ops.cost(node, inputs), label(node))
            return tuple(widen(each) for each in reference_ops.evaluate(node, inputs, self._opset))


def _holds_graphs(node: ir.Node) -> bool:
    return any(each.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for each in node.attributes.values())


def _is_whole(array: Array) -> bool:
    """Whether these are whole numbers that every type holds: sums and products of such were not rounded."""
    return bool(np.all((array == np.trunc(array)) & (np.abs(array) <= _WHOLE)))


def _is_smooth_cast(value: ir.Value, node: ir.Node) -> bool:
    """Whether a Cast goes from one floating-point type to another."""
    if op(node) not in ("Cast", "CastLike"):
        return False
    like = node.inputs[1].dtype if op(node) == "CastLike" and node.inputs[1] is not None else None
    target = like or ir.DataType(node.attributes.get_int("to", ir.DataType.FLOAT))
    return of_onnx(target) is not None


def _read_by(node: ir.Node) -> Sequence[ir.Value | None]:
    """The inputs whose values matter; of the second one of CastLike it is the type."""
    return node.inputs[:1] if op(node) == "CastLike" else node.inputs


def _read_constant(value: ir.Value) -> Array:
    assert value.const_value is not None
    try:
        return np.asarray(value.const_value.numpy())
    except (OSError, ValueError) as error:  # external data that is absent, short, or outside the model's folder
        raise FoldError(value.name or "initializer", f"its values can't be read: {error}") from error


def _stored_bytes(node: ir.Node) -> int:
    """Bytes of the tensor in a Constant node, 0 of any other."""
    attribute = node.attributes.get("value") if op(node) == "Constant" else None
    return attribute.as_tensor().nbytes if attribute is not None else 0


def _size(node: ir.Node) -> int:
    value: Any = _field(node)
    return value.size if isinstance(value, ir.TensorProtocol) else np.size(value)


def _field(node: ir.Node) -> Any:
    return node.attributes[next(name for name in _CONSTANT_FIELDS if name in node.attributes)].value


def _read_attribute(node: ir.Node) -> Array:
    field = next(name for name in _CONSTANT_FIELDS if name in node.attributes)
    value: Any = node.attributes[field].value
    if field == "value":
        return np.asarray(value.numpy())
    return np.asarray(value, dtype=np.float64 if "float" in field else np.int64)
