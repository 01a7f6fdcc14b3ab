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


def manifest_fields(network: Mapping[str, Any], graph: onnx.GraphProto, shapes: Sequence[Profile]) -> dict[str, Any]:
    """Fields of the manifest, by name. `graph` is the one that became the network."""
    modules = {node.name: path_in(_metadata(node)) for node in graph.node if node.name}
    profiles = {each.name: each for each in shapes}
    return {
        "inputs": tuple(_tensor(each, profiles.get(each["name"])) for each in network["inputs"]),
        "outputs": tuple(_tensor(each, None) for each in network["outputs"]),
        "layers": tuple(_layer(each, modules) for each in network["layers"]),
        "precision": verify.precisions(network["layers"]),
    }


def _metadata(node: onnx.NodeProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in node.metadata_props}


def _tensor(tensor: Mapping[str, Any], profile: Profile | None) -> PlanTensor:
    known = tensor["name"], of_tensorrt(tensor["dtype"]), tuple(tensor["shape"])
    if profile is None:
        return PlanTensor(*known)
    return PlanTensor(*known, profile.smallest, profile.expected, profile.largest)


def _layer(layer: Mapping[str, Any], modules: Mapping[str, str]) -> NetworkLayer:
    origin = _ORIGIN.fullmatch(layer["origin"] or "")
    node = origin[1] if origin else layer["name"] if layer["name"] in modules else ""
    gives = of_tensorrt(layer["outputs"][0]["dtype"]) if layer["outputs"] else ""
    return NetworkLayer(layer["name"], layer["type"], gives, node, modules.get(node, ""))
