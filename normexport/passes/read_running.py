"""Reads `normexport::RunningNorm`: (X, mean, inv_scale, scale, bias) with constant statistics, each (C,)."""

from __future__ import annotations

import onnx_ir as ir

from normexport.norms import AffineParams
from normexport.passes.affine import PerChannel, Refuse
from normexport.passes.link import Link
from normexport.passes.nodes import label, required
from normexport.passes.work import Work


def read_running(node: ir.Node, work: Work) -> Link:
    """The node as a map: A = scale*inv_scale, B = bias - mean*A.

    Raises:
        Refuse: a statistic is not constant, or the four disagree on C.
    """
    required(node, 0)
    values = [work.constants.array(required(node, index)) for index in range(1, 5)]
    try:
        params = AffineParams.of(*values)
    except ValueError as error:
        raise Refuse(f"{label(node)}: {error}") from error
    kind = node.attributes.get_string("kind", "") or "running"
    return Link(node, 0, PerChannel.of(*params.coefficients()), kind)
