"""A model without functions, for runtimes that know none: the body of each in the place of its calls, and settled.

A body serves every type and rank. In the place of a call both are known, as a rule: what follows from them is computed
here, CastLike becomes the Cast that it is, or nothing, and what has a known number of axes says so. Nodes of the
model's own stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator
from onnx_ir.passes.common import InlinePass

from normexport.errors import FoldError
from normexport.graphs.initializers import add_initializer, fixed_tensor
from normexport.graphs.integer_reductions import spread_reductions
from normexport.graphs.names import Names
from normexport.graphs.nodes import op
from normexport.graphs.shapes import Shapes
from normexport.text import first_line

_MOST = 1024  # elements of a value that is computed here: sizes, axes and scalars, never a weight
_ROUNDS = 8  # each lets shape inference see further; bodies of ours need three
#: Operators that are computed where all they read is known: they have no subgraphs, and draw no numbers.
_COMPUTED = frozenset(
    [
        "Abs",
        "Add",
        "And",
        "Cast",
        "Ceil",
        "Concat",
        "Constant",
        "Div",
        "Equal",
        "Exp",
        "Expand",
        "Floor",
        "Gather",
        "GreaterOrEqual",
        "Greater",
        "Identity",
        "Less",
        "LessOrEqual",
        "Log",
        "Max",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "Pad",
        "Pow",
        "Range",
        "ReduceMax",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "Reshape",
        "Round",
        "Slice",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Transpose",
        "Unsqueeze",
        "Where",
    ]
)
#: What sizes go through: of each a number that is open, as NaN, makes all that follow from it open.
_OF_SEVERAL = frozenset(("Add", "Concat", "Div", "Mul", "Sub"))
_OF_SIZES = frozenset(("Identity", "Pad", "ReduceProd", "Shape", "Squeeze", "Unsqueeze")) | _OF_SEVERAL


def in_one_graph(model: ir.Model) -> ir.Model:
    """The model without functions where that can be; else itself."""
    try:
        return inline_functions(model)
    except FoldError:  # functions that no runtime takes either
        return model


def inline_functions(model: ir.Model) -> ir.Model:
    """The model without functions: itself where it has none, else a copy that shares its tensors.

    Values that calls gave keep their names, and so do nodes of the model's own.

    Raises:
        FoldError: functions that call one another in a circle, or are of another operator set than the model.
    """
    if not model.functions:
        return model
    copy = model.clone()
    own = {id(node) for node in copy.graph.all_nodes()}
    names = {value.name for node in copy.graph.all_nodes() for value in node.outputs}
    try:
        InlinePass()(copy)
    except Exception as error:  # the pass raises many kinds; each says what it does not take
        cause = f"its functions can't be put in the place of their calls ({first_line(error.__cause__ or error, 200)})"
        raise FoldError(model.graph.name or "model", cause, "leave --inline out") from error
    domains = {node.domain for node in copy.graph.all_nodes()} | {""}
    for domain in set(copy.graph.opset_imports) - domains:
        del copy.graph.opset_imports[domain]
    bodies = [node for node in copy.graph.all_nodes() if id(node) not in own]
    spread_reductions(copy, _Settled(copy, bodies, names).nodes)
    return copy


class _Settled:
    """Nodes of bodies, in place, with what their types and shapes decide decided."""

    def __init__(self, model: ir.Model, nodes: Sequence[ir.Node], public: Set[str | None]) -> None:
        self.nodes, self._mine, self._public = list(nodes), set(nodes), public
        self._names = Names(model.graph)
        self._known: dict[ir.Value, npt.NDArray[np.generic]] = {}
        for _ in range(_ROUNDS):
            self._shapes = Shapes(model)
            before = len(self.nodes)
            self._settle()
            if len(self.nodes) == before:
                break
        self._say_ranks(Shapes(model))

    def _settle(self) -> None:
        for node in list(self.nodes):
            if op(node) == "CastLike":
                self._decide_type(node)
            elif op(node) == "Reshape":
                self._decide_shape(node)
            if node.graph is not None and (value := self._computed(node)) is not None:
                self._store(node, value)
        for node in reversed(list(self.nodes)):
            if not any(output.uses() or output.is_graph_output() for output in node.outputs):
                self._remove(node)

    def _computed(self, node: ir.Node) -> npt.NDArray[np.generic] | None:
        """What a node gives at every run; None where that is not known, or much."""
        if op(node) in ("Shape", "Size"):
            return self._size(node)
        if op(node) not in _COMPUTED or len(node.outputs) != 1:
            return None
        return _evaluated(node, [self._array(value) for value in node.inputs if value is not None])

    def _size(self, node: ir.Node) -> npt.NDArray[np.generic] | None:
        value = node.inputs[0]
        sizes = None if value is None else self._shapes.of(value)
        part = (None,) if sizes is None else _part(node, sizes)
        if None in part:
            return None
        known = np.array(part, np.int64)
        return np.asarray(known.prod(dtype=np.int64)) if op(node) == "Size" else known

    def _array(self, value: ir.Value) -> npt.NDArray[np.generic] | None:
        """A small constant."""
        if value in self._known:
            return self._known[value]
        tensor = fixed_tensor(value)
        if tensor is None or tensor.size > _MOST or isinstance(tensor, ir.ExternalTensor):
            return None
        return tensor.numpy()

    def _decide_type(self, node: ir.Node) -> None:
        """CastLike to a known type is a Cast; from that very type it is nothing."""
        source, like = node.inputs
        assert source is not None
        assert like is not None
        wanted = self._shapes.dtype(like)
        if wanted is None:
            return
        if self._shapes.dtype(source) == wanted and self._bypass(node, source):
            return
        cast = ir.Node(
            "", "Cast", [source], [ir.AttrInt64("to", int(wanted))], name=node.name, metadata_props=node.metadata_props
        )
        self._replace(node, cast)

    def _decide_shape(self, node: ir.Node) -> None:
        """A Reshape to a shape of which one size alone is open is one to a constant: -1 stands for what is left."""
        shape = node.inputs[1]
        sizes = None if shape is None or shape in self._known else self._sizes(shape)
        if sizes is None or sizes.ndim != 1 or node.graph is None:
            return
        is_open = np.isnan(sizes)
        # What is left of nothing is nothing, where no other size is 0: an empty batch too.
        if is_open.sum() == 1 and (sizes[~is_open] > 0).all():
            array = np.where(is_open, -1, sizes).astype(np.int64)
            node.replace_input_with(1, self._initializer(node.graph, f"{node.name}/sizes", array))

    def _sizes(self, value: ir.Value) -> npt.NDArray[np.float64] | None:
        """What is known of a value that sizes follow from, NaN for a number that is open; None: nothing."""
        known = self._array(value)
        if known is not None:
            return known.astype(np.float64) if known.dtype.kind == "i" else None
        node = value.producer()
        if node is None or op(node) not in _OF_SIZES or node.inputs[0] is None:
            return None
        if op(node) == "Shape":
            sizes = self._shapes.of(node.inputs[0])
            return None if sizes is None else np.array(_part(node, sizes), np.float64)
        # Axes and pads have to be known; what they are applied to, or what is added, may be open in part.
        whole = len(node.inputs) if op(node) in _OF_SEVERAL else 1
        arrays = [
            self._sizes(each) if index < whole else self._array(each)
            for index, each in enumerate(node.inputs)
            if each is not None
        ]
        found = _evaluated(node, arrays)
        return np.trunc(found) if found is not None and op(node) == "Div" else found

    def _bypass(self, node: ir.Node, source: ir.Value) -> bool:
        """Let those that read the node's output read its source, which takes the name that the model knew it by."""
        (output,) = node.outputs
        if output.name in self._public:
            maker = source.producer()
            if maker not in self._mine or source.is_graph_output() or source in self._known:
                return False
            source.name, source.shape, source.type = output.name, output.shape or source.shape, output.type
            output.name = self._names.fresh(f"{output.name}/cast")
        output.replace_all_uses_with(source, replace_graph_outputs=True)
        self._remove(node)
        return True

    def _store(self, node: ir.Node, array: npt.NDArray[np.generic]) -> None:
        """An initializer in the place of a node."""
        (output,) = node.outputs
        if output.name in self._public or node.graph is None:
            return
        stored = self._initializer(node.graph, str(output.name), array)
        output.replace_all_uses_with(stored)
        self._remove(node)

    def _initializer(self, graph: ir.Graph | ir.Function, stem: str, array: npt.NDArray[np.generic]) -> ir.Value:
        assert isinstance(graph, ir.Graph)
        value = add_initializer(graph, self._names.fresh(stem), array)
        self._known[value] = array
        return value

    def _replace(self, node: ir.Node, new: ir.Node) -> None:
        assert node.graph is not None
        graph = node.graph
        self.nodes[self.nodes.index(node)] = new
        self._mine.add(new)
        ir.convenience.replace_nodes_and_values(graph, node, [node], [new], node.outputs, new.outputs)

    def _remove(self, node: ir.Node) -> None:
        assert node.graph is not None
        node.graph.remove(node, safe=True)
        self.nodes.remove(node)
        self._mine.discard(node)

    def _say_ranks(self, shapes: Shapes) -> None:
        """A shape of known length tells the number of axes where inference does not follow its numbers."""
        for node in self.nodes:
            if op(node) not in ("Reshape", "Expand") or shapes.of(node.outputs[0]) is not None:
                continue
            given = node.inputs[1]
            length = None if given is None else shapes.size(given, 0)
            if length is not None:
                node.outputs[0].shape = ir.Shape([None] * length)


def _part(node: ir.Node, sizes: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """The sizes that a Shape asks for; a Size asks for all."""
    start, end = (node.attributes.get(each) for each in ("start", "end"))
    return sizes[start.as_int() if start else 0 : end.as_int() if end else len(sizes)]


def _evaluated(node: ir.Node, arrays: Sequence[npt.NDArray[np.generic] | None]) -> npt.NDArray[Any] | None:
    """What a node makes of arrays; None where one is not known, where it can't, or where that is much."""
    if any(array is None for array in arrays):
        return None
    names = [str(value.name) for value in node.inputs if value is not None]
    try:
        with np.errstate(all="ignore"):
            (value,) = ReferenceEvaluator(ir.to_proto(node)).run(None, dict(zip(names, arrays, strict=True)))
    except Exception:  # the evaluator raises many kinds: what it can't compute is left to the runtime
        return None
    array = np.asarray(value)
    return array if array.size <= _MOST and array.dtype != object else None
