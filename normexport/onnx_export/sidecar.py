"""`model.layers.json`: the layer map beside an ONNX file, for tools that drop metadata.

    {"format": 1, "model": "model.onnx",
     "layers": [{"path": "layer1.0.conv1", "call": 0, "type": "Conv2d", "tensor": "conv2d_1",
                 "nodes": ["node_conv2d_1"], "holds": ["layer1.0.bn1"]}, ...]}

`tensor` is null where folding left no tensor that holds the module's own output. `nodes` are the ONNX nodes made
by the module, `holds` the norms folded into them. Fields that are not read here may be anything.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir

from normexport.errors import UsageError
from normexport.graphs.node_metadata import FOLDED, module_path
from normexport.io.json_files import BadJson, count, many, optional, read_json, record, text
from normexport.onnx_export.layers import Layer, present

FORMAT = 1


def sidecar_path(model: Path) -> Path:
    """out/model.onnx -> out/model.layers.json."""
    return model.with_suffix(".layers.json")


def sidecar_text(layers: Sequence[Layer], model: ir.Model, name: str) -> str:
    """The file's content for a model about to be saved as `name`."""
    nodes: dict[str, list[str]] = defaultdict(list)
    holds: dict[str, list[str]] = defaultdict(list)
    for node in model.graph:
        path = module_path(node)
        nodes[path].append(node.name or "")
        holds[path] += [norm for norm in node.metadata_props.get(FOLDED, "").split(",") if norm]
    there = set(present(layers, model))
    rows = [
        {
            "path": layer.path,
            "call": layer.call,
            "type": layer.type,
            "tensor": layer.tensor if layer in there else None,
            "nodes": nodes.get(layer.path, []),
            "holds": holds.get(layer.path, []),
        }
        for layer in layers
    ]
    return json.dumps({"format": FORMAT, "model": name, "layers": rows}, indent=1) + "\n"


def read_sidecar(path: Path) -> tuple[Layer, ...]:
    """The layers whose tensor is in the file.

    Raises:
        UsageError: not a layer map of this format.
    """
    try:
        fields = record(read_json(path), "")
        fields.require_format(FORMAT)
        return tuple(layer for layer in fields.get("layers", many(_layer)) if layer is not None)
    except BadJson as error:
        raise UsageError(str(path), f"is not a layer map ({error})", "remove it, or convert the model again") from error


def _layer(value: Any, where: str) -> Layer | None:
    row = record(value, where)
    path, call, kind = row.get("path", text), row.get("call", count), row.get("type", text)
    tensor = row.get("tensor", optional(text))
    return None if tensor is None else Layer(path, call, kind, tensor)
