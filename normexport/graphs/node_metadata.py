"""Which module made an ONNX node, and which norms it took in: metadata that export writes and later stages read."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

#: Written by torch's exporter: "['', 'layer1', 'layer1.0', 'conv2d']", outermost module first, the operation last,
#: and class names in the same order.
SCOPES = "pkg.torch.onnx.name_scopes"
CLASSES = "pkg.torch.onnx.class_hierarchy"
#: Written by `passes`: the norms that a node took in, separated by commas.
FOLDED = "normexport.folded"
#: Written by export on a graph's input: where forward takes it ("boxes.0"), if not as the next in line.
ARGUMENT = "normexport.argument"

#: What the exporter writes where a node was made by no module at all.
NO_MODULE = "_empty_nn_module_stack"


def words(metadata: Mapping[str, str], key: str) -> list[str]:
    """The list of words in a node's metadata; empty where there is none or it can't be read."""
    try:
        value = ast.literal_eval(metadata.get(key, "[]"))
    except (ValueError, SyntaxError):
        return []
    return [str(item) for item in value] if isinstance(value, list) else []


def module_path(node: ir.Node) -> str:
    """Path of the innermost module that a node was made by, "" where unknown."""
    return path_in(node.metadata_props)


def path_in(metadata: Mapping[str, str]) -> str:
    """The same of a node with this metadata."""
    scopes = words(metadata, SCOPES)
    return scopes[-2] if len(scopes) >= 2 and not scopes[-2].startswith(NO_MODULE) else ""
