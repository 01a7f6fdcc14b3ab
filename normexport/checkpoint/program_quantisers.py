"""Fake quantisation in exported programs: PyTorch's operators for it, made the one of ours.

    fused_moving_avg_obs_fake_quant, fake_quantize_per_tensor_affine, fake_quantize_per_channel_affine
    quantize_per_tensor -> dequantize_per_tensor of one scale, and the same per channel

They compute alike; PyTorch's own exporter has no ONNX form of them, and some move their range as they run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Graph, Node

from normexport.nn import ops  # noqa: F401 - registers torch.ops.normexport

_ON = "fake quantisation is on the ranges in the file: its observers, which are still on there, are left out"
_OFF = "fake quantisation that is switched off in the file is left out"


def with_our_quantisers(program: ExportedProgram) -> tuple[ExportedProgram, list[str]]:
    """The program, itself where it has no fake quantisation, else a copy; and what was decided, in words."""
    targets = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    if not any(target.startswith(tuple(_FORMS)) for target in targets):
        return program, []
    made, notes = copy.copy(program), dict[str, None]()
    made._graph_module = copy.deepcopy(program.graph_module)
    values = _values(program)
    for node in list(made.graph.nodes):
        form = next((form for name, form in _FORMS.items() if str(node.target).startswith(name)), None)
        if node.op == "call_function" and form is not None:
            form(made.graph, node, values, notes)
    made.graph.eliminate_dead_code()
    made.graph_module.recompile()
    return made, list(notes)


def _values(program: ExportedProgram) -> Mapping[str, Any]:
    """Tensors by the name of the node that stands for them."""
    signature = program.graph_signature
    named = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    held = {**program.constants, **program.state_dict}
    return {node: held[name] for node, name in named.items() if name in held}


def _is_on(switch: Any, values: Mapping[str, Any]) -> bool:
    found = values.get(switch.name) if isinstance(switch, Node) else None
    return not isinstance(found, Tensor) or bool(found.reshape(-1)[0])


def _fused(graph: Graph, node: Node, values: Mapping[str, Any], notes: dict[str, None]) -> None:
    x, observing, rounding, _, _, scale, zero, _, low, high, axis, *rest = node.args
    by_channel = bool(rest[0]) if rest else bool(node.kwargs.get("per_row_fake_quant", False))
    if isinstance(x, Node) and not _is_on(rounding, values):
        notes[_OFF] = None
        node.replace_all_uses_with(x)
        graph.erase_node(node)
        return
    if _is_on(observing, values):
        notes[_ON] = None
    _put(graph, node, node, (x, scale, zero, low, high, axis if by_channel else -1))


def _by_tensor(graph: Graph, node: Node, values: Mapping[str, Any], notes: dict[str, None]) -> None:
    x, scale, zero, low, high = (*node.args[:3], *node.args[-2:])
    _put(graph, node, node, (x, scale, zero, low, high, -1))


def _by_channel(graph: Graph, node: Node, values: Mapping[str, Any], notes: dict[str, None]) -> None:
    x, scale, zero, axis, low, high = node.args
    _put(graph, node, node, (x, scale, zero, low, high, axis))


def _pair(graph: Graph, node: Node, values: Mapping[str, Any], notes: dict[str, None]) -> None:
    """A dequantize whose integers a quantize with the same numbers has made, or that are stored."""
    before, given = node.args[0], cast("tuple[Any, ...]", node.args)
    if not isinstance(before, Node):
        return
    if "per_channel" in str(node.target):
        scale, zero, axis, low, high = given[1:6]
    else:
        (scale, zero, low, high), axis = given[1:5], -1
    if "quantized_decomposed.quantize_per_" in str(before.target):
        if before.args[1:] == node.args[1:]:
            _put(graph, node, before, (before.args[0], scale, zero, low, high, axis))
        return
    if before.op != "placeholder" or not isinstance(values.get(before.name), Tensor):
        return
    aten = torch.ops.aten
    with graph.inserting_before(node):
        numbers = _call(graph, node, aten._to_copy.default, before, dtype=torch.float32)
        along = [-1 if each == axis else 1 for each in range(numbers.meta["val"].dim())]
        steps, centre = (
            _call(graph, node, aten.view.default, each, along) if isinstance(each, Node) and axis >= 0 else each
            for each in (scale, zero)
        )
        numbers = _call(graph, node, aten.sub.Tensor, numbers, centre)
        numbers = _call(graph, node, aten.mul.Tensor, numbers, steps)
    _put(graph, node, node, (numbers, scale, zero, low, high, axis))


def _call(graph: Graph, like: Node, operator: Any, *arguments: Any, **options: Any) -> Node:
    """A node of an operator, with what torch.export notes of its result."""
    made = graph.call_function(operator, arguments, options)
    held = [each.meta["val"] if isinstance(each, Node) else each for each in arguments]
    with like.meta["val"].fake_mode:
        made.meta = {**like.meta, "val": operator(*held, **options)}
    return made


def _put(graph: Graph, node: Node, at: Node, arguments: tuple[Any, ...]) -> None:
    """Our operator for `node`, in front of `at`; its scale and zero point are tensors."""
    x, scale, zero, *rest = arguments
    with graph.inserting_before(at):
        scale = _tensor(graph, scale, torch.float32, node)
        zero = _tensor(graph, zero, torch.int64, node)
        new = graph.call_function(torch.ops.normexport.fake_quantize.default, (x, scale, zero, *rest))
    new.meta = dict(node.meta)
    node.replace_all_uses_with(new)
    graph.erase_node(node)


def _tensor(graph: Graph, value: Any, dtype: torch.dtype, like: Node) -> Any:
    if isinstance(value, Node):
        return value
    return _call(graph, like, torch.ops.aten.full.default, [], value, dtype=dtype, pin_memory=False)


_Form = Callable[[Graph, Node, Mapping[str, Any], dict[str, None]], None]
_FORMS: dict[str, _Form] = {
    "aten.fused_moving_avg_obs_fake_quant.": _fused,
    "aten.fake_quantize_per_tensor_affine.": _by_tensor,
    "aten.fake_quantize_per_channel_affine.": _by_channel,
    "quantized_decomposed.dequantize_per_": _pair,
}
