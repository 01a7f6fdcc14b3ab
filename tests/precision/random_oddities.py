"""What files hold beside a plain graph: odd names, constants that are inputs or outputs, open sizes, no shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper

from normexport.errors import NormExportError
from normexport.runtime import OnnxRuntime
from normexport.runtime.guarded import in_child
from tests.precision.random_growth import Growth, Value, stored

if TYPE_CHECKING:
    from tests.precision.random_networks import Network

#: What is put behind or around names; some are what the converters themselves append.
AFFIXES: tuple[Callable[[str], str], ...] = (
    lambda name: name,
    lambda name: f"/model/layer.1/{name}",
    lambda name: f"größe-{name}-层",
    lambda name: f"{name}_float16",
    lambda name: f"{name}_float32",
    lambda name: f"{name}_folded",
    lambda name: f"{name}_quantized",
    lambda name: f"{name}_QuantizeLinear_Output",
    lambda name: f"{name}_DequantizeLinear_Output",
    lambda name: f"{name}_scale",
    lambda name: f"{name}_zero_point",
    lambda name: f"{name}:0",
    lambda name: f"{name} with spaces",
    lambda name: f"::{name}",
)
#: Of these a value is what its neighbour's name becomes with something appended.
SUFFIXES = (
    "/half",
    "/raw",
    "/wide",
    "_float16",
    "_float32",
    "_bfloat16",
    "_QuantizeLinear_Input",
    "_zero_point",
    "_scale",
    "_quantized",
    "_1",
)


def finished(g: Growth, outputs: list[Value]) -> Network:
    """The model, with some oddities."""
    from tests.precision.random_networks import Network, plain_model

    model = plain_model(g, outputs)
    graph = model.graph
    if g.choices.chance(30):
        model = _inferred(model)
        graph = model.graph
    stored_outputs = [v for v in g.constants.values() if v.is_float]
    if stored_outputs and g.choices.chance(8):
        value = g.choices.one_of(stored_outputs)
        graph.output.append(helper.make_tensor_value_info(value.name, value.elem, value.shape))
    sample = {value.name: stored(value) for value in g.inputs}
    if stored_outputs and g.choices.chance(8):
        value = g.choices.one_of(stored_outputs)
        graph.input.append(helper.make_tensor_value_info(value.name, value.elem, value.shape))
        if g.choices.chance(50):
            sample[value.name] = stored(value)
    if g.choices.chance(6):
        graph.output.append(helper.make_tensor_value_info(g.inputs[0].name, g.inputs[0].elem, g.inputs[0].shape))
    if g.choices.chance(40):
        model = _with_open_sizes(g, model, sample)
        graph = model.graph
    names = _node_names(g, graph)
    for node, name in zip(graph.node, names, strict=True):
        node.name = name
    renamed = _renaming(g, graph) if g.choices.chance(50) else {}
    if renamed:
        _rename(graph, renamed)
        sample = {renamed.get(name, name): array for name, array in sample.items()}
    return Network(model, sample, g.jumps)


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """With the types and shapes of inner values, as most exporters write them."""
    return onnx.shape_inference.infer_shapes(model, strict_mode=False, data_prop=True)


def _with_open_sizes(g: Growth, model: onnx.ModelProto, sample: dict[str, np.ndarray]) -> onnx.ModelProto:
    """The model with an open batch, by name or not said at all, where it computes at other sizes; else as it is."""
    word = g.choices.one_of(("batch", "N", "größe"))
    batch = g.inputs[0].shape[0]
    given = {value.name for value in g.inputs}
    found = onnx.ModelProto.FromString(model.SerializeToString())
    graph = found.graph
    opened = set()
    for info in (*graph.input, *graph.output):
        dims = info.type.tensor_type.shape.dim
        if len(dims) and dims[0].dim_value == batch and (info.name in given or info not in graph.input):
            dims[0].dim_param = word
            opened.add(info.name)
    if g.choices.chance(30):
        for info in graph.output:
            if info.name not in given:
                for dim in info.type.tensor_type.shape.dim:
                    dim.Clear()
    del graph.value_info[:]

    def computes() -> None:
        onnx.checker.check_model(found, full_check=True)
        runtime = OnnxRuntime(found)
        for size in (1, 2, 7):
            feeds = {port.name: sample[port.name] for port in runtime.inputs}
            runtime.run({n: np.resize(a, (size, *a.shape[1:])) if n in opened else a for n, a in feeds.items()})

    try:
        in_child(computes, "network")  # ONNX Runtime aborts the process on one in 12,000
    except (NormExportError, RuntimeError):
        return model  # somewhere in it the batch is a number
    return found


def _node_names(g: Growth, graph: onnx.GraphProto) -> list[str]:
    """Names of nodes: their own, none, or odd ones. Of two alike ONNX Runtime takes neither."""
    own = [node.name for node in graph.node]
    kind = g.choices.integer(0, 4)
    if kind == 0:
        return ["" for _ in own]
    if kind == 1:
        return [name if g.choices.chance(50) else "" for name in own]
    if kind == 2:
        return [node.output[0] for node in graph.node]
    return [g.choices.one_of(AFFIXES)(name) for name in own] if kind == 3 else own


def _renaming(g: Growth, graph: onnx.GraphProto) -> dict[str, str]:
    """Other names for values of the main graph."""
    names = [*(v.name for v in graph.input), *(v.name for v in graph.initializer)]
    names += [name for node in graph.node for name in node.output if name]
    chosen: dict[str, str] = {}
    for index, name in enumerate(dict.fromkeys(names)):
        new = g.choices.one_of(AFFIXES)(name)
        if index and g.choices.chance(20):  # another value's name, and something behind it
            new = g.choices.one_of(list(chosen.values())) + g.choices.one_of(SUFFIXES)
        while new in chosen.values():
            new += "_"
        chosen[name] = new
    return chosen


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """In place, in subgraphs too."""
    for node in graph.node:
        for field in (node.input, node.output):
            field[:] = [names.get(name, name) for name in field]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, names)
    for each in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        each.name = names.get(each.name, each.name)
