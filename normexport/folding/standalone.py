"""What can't be folded becomes the cheapest thing that computes it.

y = A*x + B as one Mul and one Add with constants (C, 1, ..): the Mul only where A is not 1, the Add only where B is
not 0, nothing at all where the map is the identity. One BatchNormalization (mean 0, variance 1, epsilon 0, scale A,
bias B) instead where the run already had one, or where the rank, and so the shape (C, 1, ..), is not known.

A run that is no longer than that stays as it is; a RunningNorm is always replaced, so that the file needs no custom
operator for constant statistics.

Refuses: A or B that overflow the type of the tensor.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from normexport.folding.edits import Overflow, float_type, overflow
from normexport.folding.graph import Draft
from normexport.folding.per_channel import Array, PerChannel
from normexport.folding.runs import RUNNING, Site
from normexport.graphs.nodes import label, name_of

RULE = "lower"


def lowest(site: Site, draft: Draft) -> list[str]:
    """Operators of the cheapest form of the run, in order."""
    norm = site.map
    if not norm.scales and not norm.shifts:
        return ["Identity"] if _must_stay(site) else []
    if (site.has("BatchNormalization") and norm.is_on(1)) or _rank(site, draft) is None:
        return ["BatchNormalization"]
    return ["Mul"] * norm.scales + ["Add"] * norm.shifts


def is_lowest(site: Site, draft: Draft) -> bool:
    """Whether nothing is gained by rewriting the run."""
    return not site.has(RUNNING) and len(site.links) <= len(lowest(site, draft))


def lower(site: Site, draft: Draft) -> list[ir.Node]:
    """Rewrite the run into its cheapest form; returns the new nodes.

    Raises:
        Overflow: a constant does not fit the tensor's type.
    """
    operators = lowest(site, draft)
    site.let_go(draft)
    if not operators:
        _drop(site, draft)
        return []
    value, nodes = site.input, []
    for operator in operators:
        node = _node(operator, value, site, draft)
        draft.graph.insert_before(site.links[-1].node, node)
        nodes.append(node)
        value = node.outputs[0]
    draft.hand_over(site.output, value, site.nodes)
    return nodes


def check_fits(site: Site, draft: Draft) -> None:
    """Whether the constants of the lowered run fit the tensor's type.

    Raises:
        Overflow: they do not.
    """
    for name, values in (("scale", site.map.a), ("shift", site.map.b)):
        what = f"the {name} of {label(site.nodes[0])}"
        hazard = overflow(values, np.arange(len(values)), _dtype(site, draft), what)
        if hazard is not None:
            raise Overflow(hazard)


def _must_stay(site: Site) -> bool:
    """Whether some node must stand between the run's input and output: both have names that callers use."""
    before = site.input
    return site.output.is_graph_output() and (before.producer() is None or before.is_graph_output())


def _rank(site: Site, draft: Draft) -> int | None:
    """The rank of every value of the run, where that of one of them is known."""
    ranks = (draft.shapes.rank(value) for value in (site.output, *(link.input for link in site.links)))
    return next((rank for rank in ranks if rank is not None), None)


def _drop(site: Site, draft: Draft) -> None:
    before = site.input
    if before.producer() is None or before.is_graph_output():
        site.output.replace_all_uses_with(before)
        draft.remove(site.nodes)
    else:
        draft.hand_over(site.output, before, site.nodes)


def _dtype(site: Site, draft: Draft) -> ir.DataType:
    return float_type(site.input, draft)


def _node(operator: str, value: ir.Value, site: Site, draft: Draft) -> ir.Node:
    norm, stem = site.map, name_of(site.nodes[0])
    output = ir.Value(name=draft.fresh(f"{site.output.name}_{operator.lower()}"))
    draft.copy_type(site.output, output)
    attributes = []
    if operator == "BatchNormalization":
        inputs = [value, *_batchnorm_inputs(norm, stem, site, draft)]
        attributes = [ir.AttrFloat32("epsilon", 0.0)]
    elif operator == "Identity":
        inputs = [value]
    else:
        rank = _rank(site, draft) or 2
        array = norm.a if operator == "Mul" else norm.b
        name = f"{stem}.scale" if operator == "Mul" else f"{stem}.shift"
        array = array.reshape(-1, *(1,) * (rank - norm.axis - 1))
        if not site.norms and np.all(array == array.flat[0]):
            array = array.reshape(-1)[0]  # no norm now, nor taken for one when it is folded again
        inputs = [value, _constant(array, name, site, draft)]
    return ir.Node(
        "",
        operator,
        inputs,
        attributes,
        name=draft.fresh(f"{stem}_{operator.lower()}"),
        outputs=[output],
        metadata_props=dict(site.nodes[-1].metadata_props),
    )


def _batchnorm_inputs(norm: PerChannel, stem: str, site: Site, draft: Draft) -> list[ir.Value]:
    ones = np.ones_like(norm.a)
    named = {"scale": norm.a, "shift": norm.b, "mean": np.zeros_like(ones), "variance": ones}
    return [_constant(array, f"{stem}.{name}", site, draft) for name, array in named.items()]


def _constant(array: Array, name: str, site: Site, draft: Draft) -> ir.Value:
    return draft.new_constant(array, _dtype(site, draft), draft.folded_name(name))
