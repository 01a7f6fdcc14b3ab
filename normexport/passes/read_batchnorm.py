"""Reads `BatchNormalization` at inference: y = (x - mean)/sqrt(var + epsilon)*scale + B, channels on axis 1."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from normexport.passes.affine import PerChannel, Refuse
from normexport.passes.link import Link
from normexport.passes.nodes import label, required
from normexport.passes.work import Work

_EPSILON = float(np.float32(1e-5))  # the attribute is a float32, and so is its default


def read_batchnorm(node: ir.Node, work: Work) -> Link:
    """The node as a map: A = scale/sqrt(var + epsilon), B = bias - mean*A.

    Raises:
        Refuse: batch statistics (training mode), statistics per position (`spatial=0` of opset 7 and 8), inputs
            that are not constant, or an operator set older than 7.
    """
    if work.opset < 7:
        raise Refuse(f"opset {work.opset} is older than 7; convert the file to a newer opset first")
    # Before opset 14 a node was in training mode if it also gave its new running statistics.
    if node.attributes.get_int("training_mode", 0) or any(each.name for each in node.outputs[1:]):
        raise Refuse(f"{label(node)} is in training mode: its statistics are those of the batch, at inference")
    if not node.attributes.get_int("spatial", 1):
        raise Refuse(f"{label(node)} has spatial=0: its statistics are per position, not per channel")
    required(node, 0)
    scale, bias, mean, variance = (work.constants.array(required(node, i)) for i in range(1, 5))
    if scale.ndim != 1 or len({scale.shape, bias.shape, mean.shape, variance.shape}) != 1:
        raise Refuse(f"the parameters of {label(node)} have different lengths, or more than one axis")
    a = scale / np.sqrt(variance + node.attributes.get_float("epsilon", _EPSILON))
    return Link(node, 0, PerChannel.of(a, bias - mean * a), "batchnorm")
