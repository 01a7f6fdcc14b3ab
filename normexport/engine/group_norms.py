"""Group and layer norms for TensorRT: the plugin of instance norms computes them, where it has none of their own."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from normexport import norms
from normexport.graphs.initializers import add_initializer
from normexport.norms import Scope


def spell_groups_as_instances(model: ir.Model, served: Collection[str]) -> ir.Model:
    """A model whose group norms are instance norms of groups, scaled and shifted by channel; `model` stays.

    X (N, C, *space) becomes (N, G, C/G * S), whose instance norm with scale 1 and bias 0 has the statistics of the
    groups. In float16 and bfloat16 its result is rounded once more than the group norm's own. A norm stays as it is
    where the plugin serves it, where it serves no instance norm of the kind, and where the types or the number of
    channels are not known.
    """
    if not any(_instance_of(node, served) for node in model.graph):
        return model
    copy = model.clone()
    for node in [node for node in copy.graph if _instance_of(node, served)]:
        _spell(copy.graph, node, _instance_of(node, served))
    return copy


def _instance_of(node: ir.Node, served: Collection[str]) -> str:
    """The operator that takes the place of this node; "" for none."""
    if node.domain != norms.DOMAIN or node.op_type in served or node.op_type not in norms.live_ops():
        return ""
    if Scope.of_op(node.op_type) is not Scope.GROUP:
        return ""
    instance = node.op_type.replace(Scope.GROUP.title, Scope.INSTANCE.title)
    x, scale = node.inputs[:2]
    known = x is not None and x.dtype is not None and scale is not None and scale.dtype is not None
    return instance if instance in served and known and _channels(node) else ""


def _channels(node: ir.Node) -> int:
    """The number of channels; 0 where it is not known."""
    scale = node.inputs[1]
    size = scale.shape[0] if scale is not None and scale.shape is not None and len(scale.shape) == 1 else None
    return size if isinstance(size, int) else 0


def _spell(graph: ir.Graph, node: ir.Node, instance: str) -> None:
    x, scale, bias = node.inputs
    assert x is not None
    assert scale is not None
    stem = node.name or str(node.outputs[0].name)
    groups = node.attributes["num_groups"].as_int() if "num_groups" in node.attributes else 1
    dtype, kept = scale.dtype, x.dtype
    assert dtype is not None
    assert kept is not None

    def constant(suffix: str, array: np.ndarray) -> ir.Value:
        return add_initializer(graph, f"{stem}/{suffix}", array)

    made: list[ir.Node] = []

    def add(op: str, *inputs: ir.Value | None, to: ir.DataType | None = None) -> ir.Value:
        attributes = [] if to is None else [ir.AttrInt64("to", to.value)]
        made.append(ir.Node("", op, inputs, attributes, name=f"{stem}/{op.lower()}{len(made)}"))
        made[-1].outputs[0].name = f"{made[-1].name}/result"
        return made[-1].outputs[0]

    rows = add("Reshape", x, constant("rows", np.array([0, groups, -1])))
    one, none = (constant(name, np.full(groups, value, dtype.numpy())) for name, value in (("one", 1), ("none", 0)))
    attributes = [value for name, value in node.attributes.items() if name != "num_groups"]
    norm = ir.Node(norms.DOMAIN, instance, [rows, one, none], attributes, name=stem)
    norm.metadata_props.update(node.metadata_props)
    norm.outputs[0].name, norm.outputs[0].dtype = f"{stem}/normalized", kept
    made.append(norm)
    wide = norm.outputs[0] if kept == dtype else add("Cast", norm.outputs[0], to=dtype)
    cube = add("Reshape", wide, constant("cube", np.array([0, _channels(node), -1])))
    per_channel = constant("per_channel", np.array([1, -1, 1]))
    shifted = add("Mul", cube, add("Reshape", scale, per_channel))
    shifted = add("Add", shifted, add("Reshape", bias, per_channel))
    narrow = shifted if kept == dtype else add("Cast", shifted, to=kept)
    whole = add("Reshape", narrow, add("Shape", x))
    graph.insert_before(node, made)
    ir.convenience.replace_nodes_and_values(graph, node, [node], [], node.outputs, [whole])
