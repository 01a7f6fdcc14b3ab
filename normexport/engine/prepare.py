"""The builder's own copy of a portable ONNX model: what TensorRT must see, made in memory.

A parser takes a model-local function or a plugin of the same name, depending on its version and on the node's
attributes. So nothing is left to it: an operator that the plugin serves loses its body and names the plugin; every
other one keeps its body, or gets it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import onnx_ir as ir

from normexport import norms
from normexport.engine.group_norms import spell_groups_as_instances
from normexport.engine.integer_norms import spell_out_integer_norms
from normexport.errors import EngineError
from normexport.folding import fold
from normexport.graphs.names import fresh_name
from normexport.graphs.node_metadata import module_path
from normexport.io.onnx_scan import NAMELESS_SIZES
from normexport.norms.own_bodies import require_own_bodies

PLUGIN_VERSION = "1"

#: What a plugin's creator asks for; defaults of the operators' own attributes.
_FLOATS = {"epsilon": norms.EPSILON_DEFAULT, "correction": 0.0}

#: Operators of weights: they fold into constants, and their bodies use what TensorRT's parser lacks.
_OF_WEIGHTS = "BoundedWeightNorm"


@dataclass(frozen=True)
class PluginNode:
    """One node that a plugin computes: its unique name, operator, and the module it came from ("" unknown)."""

    node: str
    op: str
    module: str


@dataclass(frozen=True)
class Prepared:
    """The model to parse, the nodes that become plugins, and the operators that keep their bodies."""

    model: ir.Model
    plugins: tuple[PluginNode, ...]
    bodies: tuple[str, ...]


def prepare(model: ir.Model, served: Collection[str]) -> Prepared:
    """What the parser should read; `model` is not changed, and is the answer itself where it needs no change.

    Args:
        served: operators of the domain `normexport` that the plugin library computes.

    Raises:
        EngineError: an operator of ours has neither plugin nor body.
        FoldError: one has a body that is not its own.
    """
    require_own_bodies(model)
    model = _without_nameless_sizes(model)
    if any(node.op_type == _OF_WEIGHTS for node in _ours(model)):
        model = fold(model).model
    if not any(True for _ in _ours(model)):
        return Prepared(model, (), ())
    copy = spell_groups_as_instances(spell_out_integer_norms(model, served), served).clone()
    ours = list(_ours(copy))
    taken = [node for node in ours if node.op_type in served]
    kept = sorted({node.op_type for node in ours} - set(served))
    functions = norms.functions()
    for key in [key for key in copy.functions if key[0] == norms.DOMAIN and key[1] in served]:
        del copy.functions[key]
    for name in kept:
        if (norms.DOMAIN, name, "") in copy.functions:
            continue
        if name not in functions:
            place = next(node.name or name for node in ours if node.op_type == name)
            remedy = (
                "build the plugin library (normexport plugins build --tensorrt), or take an operator of this version"
            )
            raise EngineError(f"node {place}", f"{name} has neither plugin nor body", remedy)
        copy.functions[(norms.DOMAIN, name, "")] = ir.serde.deserialize_function(functions[name])
    _name_uniquely(copy, taken)
    for node in taken:
        _address(node)
    plugins = tuple(PluginNode(str(node.name), node.op_type, module_path(node)) for node in taken)
    return Prepared(copy, plugins, tuple(kept))


def _without_nameless_sizes(model: ir.Model) -> ir.Model:
    """Sizes called "?" have no name: TensorRT takes two of one name for equal, and refuses a profile of 48 x 192."""
    if not any(_is_nameless(size) for value in model.graph.inputs for size in value.shape or ()):
        return model
    copy = model.clone()
    for value in copy.graph.inputs:
        if value.shape is not None:
            value.shape = ir.Shape([None if _is_nameless(size) else size for size in value.shape])
    return copy


def _is_nameless(size: int | ir.SymbolicDim) -> bool:
    return not isinstance(size, int) and size.value in NAMELESS_SIZES


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    """All nodes, those of subgraphs and functions included."""
    yield from model.graph.all_nodes()
    for function in model.functions.values():
        yield from function.all_nodes()


def _ours(model: ir.Model) -> Iterator[ir.Node]:
    return (node for node in _nodes(model) if node.domain == norms.DOMAIN)


def _name_uniquely(model: ir.Model, taken: list[ir.Node]) -> None:
    """A network's layers are told apart by the names of their nodes alone."""
    seen = {node.name for node in _nodes(model) if node not in set(taken)}
    for node in taken:
        node.name = fresh_name(node.name or node.op_type, seen, "#", first=2)
        seen.add(node.name)


def _address(node: ir.Node) -> None:
    """Name the plugin in the node's attributes, and spell out every field that its creator asks for."""
    for name, value in _FLOATS.items():
        node.attributes.setdefault(name, ir.AttrFloat32(name, value))
    for name, count in norms.PARAMETERS.items():
        node.attributes.setdefault(name, ir.AttrInt64(name, count))
    node.attributes["plugin_namespace"] = ir.AttrString("plugin_namespace", norms.DOMAIN)
    node.attributes["plugin_version"] = ir.AttrString("plugin_version", PLUGIN_VERSION)
