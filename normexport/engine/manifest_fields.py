"""What the manifest says of a network: its tensors, its layers with the modules they came from, its plugins."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import onnx

from normexport.dtypes import of_tensorrt
from normexport.engine import verify
from normexport.engine.manifest import NetworkLayer, PlanTensor
from normexport.engine.shapes import Profile
from normexport.graphs.node_metadata import path_in

#: How the parser names the ONNX node that a layer was made from.
_ORIGIN = re.compile(r"\[ONNX Layer: (.*)\]")


def manifest_fields(
    network: Mapping[str, Any], graph: onnx.GraphProto, shapes: Sequence[Sequence[Profile]]
) -> dict[str, Any]:
    """Fields of the manifest, by name. `graph` is the one that became the network; `shapes` are its profiles."""
    modules = {node.name: path_in(_metadata(node)) for node in graph.node if node.name}
    profiles = {
        input["name"]: [each for profile in shapes for each in profile if each.name == input["name"]]
        for input in network["inputs"]
    }
    return {
        "inputs": tuple(_tensor(each, profiles[each["name"]]) for each in network["inputs"]),
        "outputs": tuple(_tensor(each, ()) for each in network["outputs"]),
        "layers": tuple(_layer(each, modules) for each in network["layers"]),
        "precision": verify.precisions(network["layers"]),
    }


def _metadata(node: onnx.NodeProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in node.metadata_props}


def _tensor(tensor: Mapping[str, Any], profiles: Sequence[Profile]) -> PlanTensor:
    known = tensor["name"], of_tensorrt(tensor["dtype"]), tuple(tensor["shape"])
    shapes = [(each.smallest, each.expected, each.largest) for each in profiles]
    return PlanTensor(*known, *shapes[0], tuple(shapes[1:])) if shapes else PlanTensor(*known)


def _layer(layer: Mapping[str, Any], modules: Mapping[str, str]) -> NetworkLayer:
    origin = _ORIGIN.fullmatch(layer["origin"] or "")
    node = origin[1] if origin else layer["name"] if layer["name"] in modules else ""
    gives = of_tensorrt(layer["outputs"][0]["dtype"]) if layer["outputs"] else ""
    return NetworkLayer(layer["name"], layer["type"], gives, node, modules.get(node, ""))
