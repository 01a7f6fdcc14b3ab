"""A model in another operator set: what an operator says in another way there is rewritten, what it lacks is refused.

Between 13 and 23 few operators changed their form: Reduce* and Split in 18, GridSample and Gelu in 20,
GroupNormalization in 21. Every other node is held against its schema: attributes that an older one lacks may go where
they have their default. Nothing is trusted: who takes the result compares it with the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper

from normexport.errors import FoldError
from normexport.graphs.export_config import HIGHEST, LOWEST
from normexport.graphs.initializers import fixed_tensor
from normexport.graphs.nodes import drop_unread_initializers, label, op
from normexport.graphs.upgrade import upgraded
from normexport.io.onnx_domain import import_opset, is_onnx_domain, opset_in

__all__ = ["HIGHEST", "LOWEST", "body_in_opset", "in_opset"]

_FIRST = 13  # older ones are for ONNX's own converter
_AXES_AS_INPUT = 18
_NEWEST_FORMAT_FROM = 20
_REDUCTIONS = frozenset(
    f"Reduce{how}" for how in (["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare"])
)
#: Values of attributes, and the operator set that brought them.
_VALUES = {
    ("Resize", "coordinate_transformation_mode", "half_pixel_symmetric"): 19,
    ("Pad", "mode", "wrap"): 19,
    ("ScatterElements", "reduction", "max"): 18,
    ("ScatterElements", "reduction", "min"): 18,
    ("ScatterND", "reduction", "max"): 18,
    ("ScatterND", "reduction", "min"): 18,
}
_GRID_MODES = {"linear": "bilinear", "cubic": "bicubic"}  # from 20 on, and before


def in_opset(model: ir.Model, opset: int) -> ir.Model:
    """The model in operator set `opset`, its functions too: the same object where it is, else a copy sharing tensors.

    Its file format is the oldest that the operator set goes with, where that is older than 20: who asks for it has a
    runtime of those days.

    Raises:
        FoldError: naming an operator that the set does not have in this form.
    """
    place = model.graph.name or "model"
    needed = helper.find_min_ir_version_for([helper.make_opsetid("", opset)])
    file_format = needed if opset < _NEWEST_FORMAT_FROM else max(needed, model.ir_version)
    bodies: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    if model.ir_version == file_format and all(opset_in(body.opset_imports, opset) == opset for body in bodies):
        return model
    if opset_in(model.graph.opset_imports, opset) < _FIRST:
        model = upgraded(model, _FIRST)
    made = model.clone()
    body_in_opset(made.graph, opset, place)
    for function in made.functions.values():
        body_in_opset(function, opset, place)
    drop_unread_initializers(made.graph)
    made.ir_version = file_format
    return made


def body_in_opset(body: ir.Graph | ir.Function, opset: int, place: str) -> None:
    """Take a graph or a function to operator set `opset`, in place.

    Raises:
        FoldError: naming an operator that the set does not have in this form.
    """
    own = opset_in(body.opset_imports, opset)
    if own == opset:
        return
    try:
        if own < _FIRST:
            raise _Unfit(f"is of operator set {own}, which ONNX's converter does not take further")
        for node in list(body.all_nodes()):
            if is_onnx_domain(node.domain):
                for rewrite in _REWRITES:
                    rewrite(node, own, opset)
                if node.graph is not None:  # still there
                    _fit(node, own, opset)
    except _Unfit as unfit:
        remedy = f"ask for another --opset, {LOWEST} to {HIGHEST}, or leave it out"
        raise FoldError(place, f"can't be of operator set {opset}: {unfit}", remedy) from unfit
    import_opset(body.opset_imports, opset)


class _Unfit(Exception):
    """Why a node has no form in an operator set."""


def _schema(node: ir.Node, opset: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError:
        return None


def _fit(node: ir.Node, own: int, opset: int) -> None:
    """Hold a node against its schema there; attributes and inputs that mean nothing go."""
    before, after = _schema(node, own), _schema(node, opset)
    if before is None or after is None:
        raise _Unfit(f"{label(node)} is none of its operators")
    if before.since_version == after.since_version:
        return
    if op(node) == "GroupNormalization" and (own < 21) != (opset < 21):
        raise _Unfit(f"{label(node)} has scales of another size there")
    for (kind, name, value), since in _VALUES.items():
        if op(node) == kind and opset < since and name in node.attributes and node.attributes[name].value == value:
            raise _Unfit(f"{label(node)} has {name}={value}, which came with {since}")
    for name, attribute in list(node.attributes.items()):
        if name in after.attributes:
            continue
        if attribute.is_ref() or not _is_nothing(name, attribute, before):
            raise _Unfit(f"{label(node)} has {name}={attribute.value}, which is not in it")
        del node.attributes[name]
    variadic = onnx.defs.OpSchema.FormalParameterOption.Variadic
    last = list(after.inputs)[-1:]
    if len(node.inputs) > len(after.inputs) and not (last and last[0].option == variadic):
        raise _Unfit(f"{label(node)} has {len(node.inputs)} inputs, and there {len(after.inputs)}")
    for formals, values in ((after.inputs, node.inputs), (after.outputs, node.outputs)):
        listed = list(formals)
        for index, each in enumerate(values):
            if each is None or each.dtype is None or isinstance(each.type, (ir.SequenceType, ir.OptionalType)):
                continue
            if f"tensor({each.dtype.name.lower()})" not in listed[min(index, len(listed) - 1)].types:
                raise _Unfit(f"{label(node)} takes no {each.dtype.name.lower()} there")


def _is_nothing(name: str, attribute: ir.Attr, schema: onnx.defs.OpSchema) -> bool:
    """Whether an attribute says what holds without it."""
    if name == "dilations":
        return all(step == 1 for step in attribute.as_ints())
    given = schema.attributes[name].default_value if name in schema.attributes else None
    if given is None or not given.type:
        return False
    default = helper.get_attribute_value(given)
    return bool(attribute.value == (default.decode() if isinstance(default, bytes) else default))


def _constant(node: ir.Node, value: np.ndarray, stem: str) -> ir.Value:
    """A new constant, made right before a node."""
    made = ir.node("Constant", [], {"value": ir.tensor(value)})
    made.outputs[0].name = f"{node.outputs[0].name}:{stem}"
    made.metadata_props.update(node.metadata_props)
    assert node.graph is not None
    node.graph.insert_before(node, made)
    return made.outputs[0]


def _numbers(value: ir.Value) -> list[int] | None:
    """The whole numbers of a constant; None where it is none."""
    tensor, producer = fixed_tensor(value), value.producer()
    if producer is not None and producer.op_type == "Constant" and is_onnx_domain(producer.domain):
        if "value_ints" in producer.attributes:
            return list(producer.attributes["value_ints"].as_ints())
        given = producer.attributes.get("value")
        tensor = given.as_tensor() if given is not None and not given.is_ref() else None
    return None if tensor is None else [int(number) for number in tensor.numpy().ravel()]


def _drop_input(node: ir.Node, index: int) -> None:
    """Take an input off, and the Constant that made it alone."""
    value = node.inputs[index]
    node.resize_inputs(index)
    producer = None if value is None else value.producer()
    if value is None or producer is None or value.uses() or value.is_graph_output():
        return
    if producer.op_type == "Constant" and producer.graph is not None:
        producer.graph.remove(producer, safe=True)


def _rewrite_reduction(node: ir.Node, own: int, opset: int) -> None:
    """Axes: an attribute up to 17, an input from 18 on."""
    if op(node) not in _REDUCTIONS:
        return
    if own < _AXES_AS_INPUT <= opset:
        axes = node.attributes.pop("axes", None)
        if axes is not None:
            node.resize_inputs(2)
            node.replace_input_with(1, _constant(node, np.array(axes.as_ints(), np.int64), "axes"))
    elif opset < _AXES_AS_INPUT <= own:
        given = node.inputs[1] if len(node.inputs) > 1 else None
        axes_given = [] if given is None else _numbers(given)
        if axes_given is None:
            raise _Unfit(f"{label(node)} computes its axes, which are written down there")
        idle = node.attributes.pop("noop_with_empty_axes", None)
        if not axes_given and idle is not None and idle.as_int():
            raise _Unfit(f"{label(node)} reduces no axis")
        if len(node.inputs) > 1:
            _drop_input(node, 1)
        if axes_given:
            node.attributes["axes"] = ir.AttrInt64s("axes", axes_given)


def _rewrite_split(node: ir.Node, own: int, opset: int) -> None:
    """From 18 on it is told how many parts there are; before, parts without sizes are equal."""
    if op(node) != "Split":
        return
    has_sizes = len(node.inputs) > 1 and node.inputs[1] is not None
    if own < _AXES_AS_INPUT <= opset and not has_sizes:
        node.attributes["num_outputs"] = ir.AttrInt64("num_outputs", len(node.outputs))
    elif opset < _AXES_AS_INPUT <= own and node.attributes.pop("num_outputs", None) is not None:
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
        shape = node.inputs[0].shape if node.inputs[0] is not None else None
        length = shape[axis] if shape is not None else None
        if not isinstance(length, int):
            raise _Unfit(f"{label(node)} splits an axis of open size into parts")
        if length % len(node.outputs):
            part = math.ceil(length / len(node.outputs))
            sizes = [max(0, min(part, length - part * index)) for index in range(len(node.outputs))]
            node.resize_inputs(2)
            node.replace_input_with(1, _constant(node, np.array(sizes, np.int64), "sizes"))


def _rewrite_grid(node: ir.Node, own: int, opset: int) -> None:
    """The modes of GridSample have other words from 20 on."""
    if op(node) != "GridSample" or (own < 20) == (opset < 20):
        return
    words = _GRID_MODES if opset < 20 else {before: now for now, before in _GRID_MODES.items()}
    mode = node.attributes["mode"].as_string() if "mode" in node.attributes else ("bilinear" if own < 20 else "linear")
    node.attributes["mode"] = ir.AttrString("mode", words.get(mode, mode))


def _rewrite_gelu(node: ir.Node, own: int, opset: int) -> None:
    """Gelu came with 20; before, x/2 * (1 + erf(x / sqrt 2)), or tanh(sqrt(2/pi) * (x + 0.044715 x^3)) for erf."""
    if op(node) != "Gelu" or opset >= 20:
        return
    graph, x, result = node.graph, node.inputs[0], node.outputs[0]
    assert graph is not None
    assert x is not None
    count = 0

    def made(kind: str, *inputs: ir.Value) -> ir.Value:
        nonlocal count
        count += 1
        new = ir.node(kind, list(inputs))
        new.name, new.outputs[0].name = f"{node.name}:{count}", f"{result.name}:gelu{count}"
        new.outputs[0].type, new.outputs[0].shape = result.type, ir.Shape([]) if kind == "CastLike" else result.shape
        new.metadata_props.update(node.metadata_props)
        graph.insert_before(node, new)
        return new.outputs[0]

    def number(value: float) -> ir.Value:
        return made("CastLike", _constant(node, np.array(value, np.float32), f"number{count}"), x)

    tanh = "approximate" in node.attributes and node.attributes["approximate"].as_string() == "tanh"
    if tanh:
        cube = made("Mul", made("Mul", made("Mul", x, x), x), number(0.044715))
        sign = made("Tanh", made("Mul", made("Add", x, cube), number(math.sqrt(2 / math.pi))))
    else:
        sign = made("Erf", made("Mul", x, number(math.sqrt(0.5))))
    last = made("Mul", made("Mul", x, number(0.5)), made("Add", sign, number(1.0)))
    ir.convenience.replace_nodes_and_values(graph, node, [node], [], [result], [last])


_REWRITES: tuple[Callable[[ir.Node, int, int], None], ...] = (
    _rewrite_reduction,
    _rewrite_split,
    _rewrite_grid,
    _rewrite_gelu,
)
