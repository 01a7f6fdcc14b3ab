"""A norm per channel that was written as one of samples x channels: InstanceNorm with running statistics in PyTorch.

reshape(x, (1, N*C, *S)), BatchNormalization with statistics, scale and bias of length N*C, each the C stored ones N
times over, and a Reshape back. It is the BatchNormalization of x with the C stored ones, then the first Reshape.
Where N is known the parameters are constants, and `layout` follows them; where it is not, they are Tiles by N.

Leaves alone: parameters that are repeated otherwise, or by another number than the batch; a channel count that is not
known; other axes that are moved.
"""

from __future__ import annotations

import onnx_ir as ir

from normexport.folding import targets
from normexport.folding.graph import Draft
from normexport.graphs.nodes import op, readers, required
from normexport.graphs.refusal import Refuse


def resolve(draft: Draft) -> bool:
    """Take every such norm before its Reshape; whether there was one."""
    found = [node for node in draft.graph if op(node) == "BatchNormalization" and _is_unrolled(node, draft)]
    for node in found:
        _roll_up(node, draft)
    return bool(found)


def _is_unrolled(node: ir.Node, draft: Draft) -> bool:
    value, parameters = node.inputs[0], node.inputs[1:5]
    shaping = value.producer() if value is not None else None
    if value is None or shaping is None or op(shaping) != "Reshape" or shaping.graph is not draft.graph:
        return False
    before = shaping.inputs[0]
    if node.attributes.get_int("training_mode", 0) or not node.attributes.get_int("spatial", 1):
        return False
    alone = len(readers(value)) == 1 and not value.is_graph_output() and len(node.outputs) == 1
    if before is None or not alone:
        return False
    try:
        return _is_rolled_out(shaping, before, draft) and all(_is_tiled(each, before, draft) for each in parameters)
    except Refuse:
        return False


def _is_rolled_out(shaping: ir.Node, x: ir.Value, draft: Draft) -> bool:
    """Whether a Reshape brings x (N, C, *S) to (1, N*C, *S)."""
    sizes, target = draft.shapes.of(x), targets.entries(shaping.inputs[1], draft) if shaping.inputs[1] else None
    if sizes is None or target is None or len(sizes) != len(target) or len(sizes) < 2 or target[0] != 1:
        return False
    copied = not shaping.attributes.get_int("allowzero", 0)
    return sizes[1] is not None and all(
        (size == 0 and copied) or targets.is_same(size, x, axis, draft) for axis, size in enumerate(target) if axis > 1
    )


def _is_tiled(value: ir.Value | None, x: ir.Value, draft: Draft) -> bool:
    """Whether a value is C constants, N times over."""
    node = value.producer() if value is not None else None
    if node is None or op(node) != "Tile" or node.inputs[0] not in draft.constants or node.inputs[1] is None:
        return False
    repeats = targets.entries(node.inputs[1], draft)
    shape = draft.constants.array(node.inputs[0]).shape
    if repeats is None or len(repeats) != 1 or not isinstance(repeats[0], targets.Axis):
        return False
    return targets.is_same(repeats[0], x, 0, draft) and shape == (draft.shapes.size(x, 1),)


def _roll_up(node: ir.Node, draft: Draft) -> None:
    shaping = required(node, 0).producer()
    assert shaping is not None
    x = required(shaping, 0)
    tiles = [value.producer() for value in node.inputs[1:5] if value is not None]
    parameters = [tile.inputs[0] for tile in tiles if tile is not None]
    output = ir.Value(name=draft.fresh(f"{node.outputs[0].name}_rolled_up"))
    draft.copy_type(x, output)
    inner = ir.Node(
        "",
        "BatchNormalization",
        [x, *parameters],
        node.attributes.values(),
        name=node.name,
        outputs=[output],
        metadata_props=dict(node.metadata_props),
    )
    draft.graph.insert_before(shaping, inner)
    shaping.replace_input_with(0, output)
    draft.hand_over(node.outputs[0], shaping.outputs[0], [node])
    draft.release([value for tile in tiles if tile is not None for value in tile.outputs])
