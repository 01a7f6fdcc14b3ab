"""Tidy what the exporter emits: constants folded, no-ops gone, names and module paths kept.

The exporter's own optimizer would also fuse BatchNormalization into convolutions, in float32 and without
saying so. Folding norms is this library's business (`folding`), so the rest of that optimizer is run without it.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common
from onnxscript import optimizer, rewriter
from onnxscript.rewriter.rules import common as rules

from normexport.graphs.node_metadata import module_path

_RULES = (
    rules.add_0_rule,
    rules.cast_cast_rule,
    rules.cast_constant_of_shape_rule,
    rules.cast_constant_of_shape_without_value_rule,
    rules.collapse_slice_rule,
    rules.collapse_slice2_rule,
    rules.div_by_1_rule,
    rules.dropout_inference_rule,
    rules.dropout_zero_rule,
    *rules.expand_before_binary_op_rules,
    *rules.fuse_hardswish_rules(),
    rules.fuse_pad_into_conv_rule,
    rules.materialize_reshape_shape_rule,
    rules.max_max_rule,
    rules.max_min_rule,
    rules.min_max_rule,
    rules.min_min_rule,
    rules.mul_by_1_rule,
    rules.no_op_cast_rule,
    rules.no_op_expand_rule,
    rules.no_op_static_scatter_nd_rule,
    rules.no_op_transpose_rule,
    rules.one_reshape_matmul_reshape_rule,
    rules.remove_optional_bias_from_conv_rule,
    rules.remove_optional_bias_from_conv_transpose_rule,
    rules.remove_optional_bias_from_gemm_rule,
    rules.reshape_reshape_rule,
    rules.slice_split_rule,
    rules.squeeze_reshape_1d_rule,
    rules.sub_0_rule,
    rules.successive_clip_rule,
    rules.successive_clip_relu_rule,
    rules.successive_relu_rule,
    rules.successive_relu_clip_rule,
    rules.transpose_transpose_rule,
    rules.two_reshapes_matmul_reshape_rule,
    rules.unsqueeze_unsqueeze_rule,
)

#: Elements of a constant that is computed here; the folder keeps none that is larger.
_MOST_ELEMENTS = 512 * 512

#: Operators that can make more elements than they read.
_GROWING = frozenset({"ConstantOfShape", "Expand", "OneHot", "Pad", "Range", "Resize", "Tile", "Upsample"})

#: Metadata that names files and lines of the machine that trained the model; of no use to who runs it.
_PRIVATE = (
    "pkg.torch.onnx.stack_trace",
    "pkg.torch.onnx.fx_node",
    "pkg.torch.export.ExportedProgram.graph_signature",
    "pkg.torch.export.ExportedProgram.range_constraints",
)


def clean(model: ir.Model) -> None:
    """Tidy `model` in place; a value that stays, or takes the place of another, keeps its name."""
    optimizer.fold_constants(model, should_fold=_is_folded)
    rewriter.RewritePass(_RULES)(model)
    optimizer.fold_constants(model, should_fold=_is_folded)
    ir.passes.Sequential(
        common.RemoveUnusedNodesPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.IdentityEliminationPass(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
    )(model)
    for node in model.graph.all_nodes():
        for key in _PRIVATE:
            node.metadata_props.pop(key, None)
    for key in _PRIVATE:
        model.graph.metadata_props.pop(key, None)
        model.metadata_props.pop(key, None)


def _is_folded(node: ir.Node) -> bool | None:
    """Whether to compute a node of constants; None leaves it to the folder, which looks at the inputs' sizes alone.

    ConstantOfShape too, which the folder leaves for its size: here it fills vectors of C channels. Nothing large: the
    folder would compute it, only to drop it, and an `arange(10 ** 10)` takes 80 GB.
    """
    sizes = [
        math.prod(value.shape.numpy()) for value in node.outputs if value.shape is not None and value.shape.is_static()
    ]
    if len(sizes) < len(node.outputs) and node.op_type in _GROWING:
        sizes.append(_size_made(node))
    if any(size > _MOST_ELEMENTS for size in sizes):
        return False
    return True if node.op_type == "ConstantOfShape" else None


def _size_made(node: ir.Node) -> int:
    """Elements that an operator of `_GROWING` makes of constants; beyond all limits where its inputs do not tell."""
    given = [None if value is None else ir.convenience.get_const_tensor(value) for value in node.inputs]
    if not given or node.op_type not in ("ConstantOfShape", "Expand", "Tile"):
        return _MOST_ELEMENTS + 1
    data, last = given[0], given[-1]
    if data is None or last is None:
        return _MOST_ELEMENTS + 1
    counts = [int(count) for count in last.numpy().ravel()]
    if node.op_type == "ConstantOfShape":
        return math.prod(counts)
    if node.op_type == "Tile":
        return math.prod(counts) * data.size
    try:
        return math.prod(np.broadcast_shapes(data.shape.numpy(), counts))
    except ValueError:  # it does not broadcast
        return _MOST_ELEMENTS + 1


def name_nodes(graph: ir.Graph) -> None:
    """Name nodes after their module: "layer1.0.conv1" for a leaf's only node, "layer1.0/Add" for a function's.

    Their outputs get the same names. Reasons, warnings and graph viewers then speak of what the user wrote.
    """
    others = {value.name for value in graph.inputs} | set(graph.initializers)
    made_by = Counter(module_path(node) for node in graph)
    leaves = {path for path, count in made_by.items() if path and count == 1}
    taken: Counter[str] = Counter()
    for node in graph:
        path = module_path(node)
        stem = path if path in leaves else "/".join(part for part in (path, node.op_type) if part)
        taken[stem] += 1
        node.name = stem if taken[stem] == 1 else f"{stem}#{taken[stem]}"
        for position, value in enumerate(node.outputs):
            name = node.name if len(node.outputs) == 1 else f"{node.name}:{position}"
            if name not in others:
                value.name = name
