"""Live norms that a network computes with ordinary operators become operators of this library.

Every place where numbers that came different ways from one value meet may be where a norm divides. What lies between
is cut out, widened as far as it can be, and examined; what is proven to be a norm is replaced, and what normalises in
another way is told with its reason.
Norms in branches and loops are told and stay, those inside functions are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from normexport.dtypes import FLOATS
from normexport.folding import FoldConfig, FoldResult, NormOutcome, fold
from normexport.folding.bodies import inner_graphs, standing_alone
from normexport.folding.graph import Draft
from normexport.graphs.node_metadata import module_path
from normexport.graphs.nodes import name_of, op
from normexport.graphs.refusal import Refuse
from normexport.norms import DOMAIN
from normexport.norms.bodies import attach_bodies
from normexport.recognition.behaviour import OtherDivisor
from normexport.recognition.examine import examine
from normexport.recognition.flow import Flow, Region
from normexport.recognition.operators import LAYOUT, REDUCTIONS
from normexport.recognition.standard import standard_norms
from normexport.recognition.statistic import Reading

_LEAST_REDUCTIONS = 2  # a mean and a statistic
_MOST_TRIED = 12  # pairs of ends, where one norm may begin and end
_FUNCTIONS_FROM = 8  # the version of the file format that has functions
_FLOATS = {each.ir for each in FLOATS.values()}
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Recognition:
    """What was found in a model.

    Attributes:
        model: with an operator for each norm that was recognised; the very same object where none was.
        recognised: by the name of the node that it is now, how many nodes it was.
        refused: norms that stay as they are, each with its reason.
    """

    model: ir.Model
    recognised: dict[str, int]
    refused: tuple[NormOutcome, ...]


def fold_recognised(model: ir.Model, config: FoldConfig | None = None, *, live_operators: bool = False) -> FoldResult:
    """`fold`, with an outcome for each live norm that ordinary operators compute.

    live_operators: make each of them one operator, for native kernels, integer norms and TensorRT's plugin; its body
    takes ONNX Runtime without the library as long as the nodes that it replaces (`benchmarks/recognised_norms.py`).
    Else they stay.

    Raises:
        FoldError: as `fold` does.
    """
    found = recognise(model, live_operators=live_operators)
    result = fold(found.model, config)
    told = [_tell(outcome, found.recognised) for outcome in result.norms]
    return FoldResult(
        result.model, (*told, *found.refused), result.warnings, result.changed or found.model is not model
    )


def _tell(outcome: NormOutcome, recognised: dict[str, int]) -> NormOutcome:
    if outcome.node not in recognised:
        return outcome
    count = recognised[outcome.node]
    return replace(outcome, reason=f"{outcome.reason}; recognised in {count} nodes of ordinary operators")


def recognise(model: ir.Model, *, live_operators: bool = True) -> Recognition:
    """Find every live norm that the main graph computes with ordinary operators; `model` is not changed.

    live_operators: make an operator of each; else they are told among those that stay.
    """
    standard = (*standard_norms(model.graph), *_norms_in_bodies(model))
    if sum(op(node) in REDUCTIONS for node in model.graph) < _LEAST_REDUCTIONS:
        return Recognition(model, {}, standard)
    try:
        copy = model.clone()
    except (RuntimeError, ValueError):
        return Recognition(model, {}, standard)  # `fold` says what is wrong with it
    RemoveUnusedNodesPass()(copy)  # what nothing needs would hold what a norm needs no longer
    with np.errstate(all="ignore"):
        search = _Search(Draft(model, copy, FoldConfig()))
        search.run()
    refused = (*standard, *search.outcomes())
    if not search.norms or not live_operators:
        return Recognition(model, {}, (*refused, *(_kept(region, reading) for region, reading in search.norms)))
    names: dict[str, int] = {}
    handed_over: dict[ir.Value, ir.Value] = {}  # what a norm made before it became an operator -> what that makes
    for region, reading in search.norms:
        node, handed_over[region.output] = _replace(
            search.draft, region, handed_over.get(region.input, region.input), reading
        )
        names[name_of(node)] = len(region.steps)
    attach_bodies(copy)
    copy.ir_version = max(copy.ir_version, _FUNCTIONS_FROM)
    return Recognition(copy, names, refused)


def _norms_in_bodies(model: ir.Model) -> list[NormOutcome]:
    """Live norms in the graphs inside If, Loop and Scan, which stay there."""
    if not any(True for _ in inner_graphs(model.graph)):
        return []
    try:
        draft = Draft(model, model.clone(), FoldConfig())
    except (RuntimeError, ValueError):
        return []  # `fold` says what is wrong with it
    with np.errstate(all="ignore"):
        found = list(_told_within(draft))
    return [
        replace(each, reason=f"{each.reason}; it stands inside a branch or a loop, where it stays") for each in found
    ]


def _told_within(outer: Draft) -> Iterator[NormOutcome]:
    for body in inner_graphs(outer.graph):
        with standing_alone(body, outer) as draft:
            if draft is None:
                continue
            yield from standard_norms(body)
            if sum(op(node) in REDUCTIONS for node in body) >= _LEAST_REDUCTIONS:
                search = _Search(draft)
                search.run()
                yield from search.outcomes()
                yield from (_kept(region, reading) for region, reading in search.norms)
            yield from _told_within(draft)


def _kept(region: Region, reading: Reading) -> NormOutcome:
    node = region.steps[-1]
    reason = (
        f"{len(region.steps)} nodes of ordinary operators compute {reading.kind.title} with the statistics of "
        f"{reading.scope.owner} at inference; recognised as "
        f"{reading.kind.op(reading.scope)}, which is for int8, native kernels and TensorRT"
    )
    return NormOutcome(name_of(node), module_path(node), reading.kind.name, "live", "", (), reason)


class _Search:
    """Finds norms; the graph is not changed."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.flow = Flow(draft.graph)
        self.norms: list[tuple[Region, Reading]] = []
        self.refused: list[tuple[Region, str]] = []
        self._taken: set[ir.Node] = set()

    def run(self) -> None:
        """All places, in graph order."""
        for place in list(self.flow.merges()):
            if place.producer() not in self._taken:
                self._look_at(place)

    def outcomes(self) -> list[NormOutcome]:
        """What was refused, but for parts of what was recognised after all, and for more around a refusal."""
        found = []
        for index, (region, reason) in enumerate(self.refused):
            earlier = [other for other, _ in self.refused[:index]]
            steps = set(region.steps)
            if steps & self._taken or any(steps >= set(other.steps) for other in earlier):
                continue
            node = region.steps[-1]
            found.append(NormOutcome(name_of(node), module_path(node), UNKNOWN, "live", "", (), reason))
        return found

    def _look_at(self, place: ir.Value) -> None:
        first: tuple[Region, str] | None = None
        for tried, region in enumerate(self._regions(place)):
            if tried == _MOST_TRIED:
                break
            try:
                reading = examine(region, self.draft.graph.opset_imports, self.draft.shapes)
            except Refuse as refusal:
                first = first or (region, refusal.reason)
                if isinstance(refusal, OtherDivisor):
                    first = region, refusal.reason
                    break
                continue
            if reading is not None:
                self.norms.append((region, reading))
                self._taken.update(region.steps)
                return
        if first is not None:
            self.refused.append(first)

    def _regions(self, place: ir.Value) -> Iterator[Region]:
        """Regions around a place, larger ones first, from the nearest beginning outward."""
        ends = self.flow.behind(place)[::-1]
        for starts in self._beginnings(place):
            for start in reversed(starts):
                for end in ends:
                    region = self.flow.region(start, end)
                    if region is not None and self._may_be_norm(region):
                        yield region

    def _beginnings(self, place: ir.Value) -> Iterator[list[ir.Value]]:
        """Values before a place with enough reductions between, each with those that are only laid out otherwise."""
        doors = list(self.flow.doors(place))
        for index, door in enumerate(doors):
            region = self.flow.region(door, place)
            if region is None:
                return
            if region.reductions < _LEAST_REDUCTIONS or set(region.steps) & self._taken:
                continue
            starts = [door]
            for before in doors[index + 1 :]:
                node = starts[-1].producer()
                if node is None or op(node) not in LAYOUT | {"Cast", "Identity"}:
                    break
                starts.append(before)
            yield starts

    def _may_be_norm(self, region: Region) -> bool:
        """Whether types and what is known of sizes are the same at both ends."""
        shapes = self.draft.shapes
        dtype = shapes.dtype(region.input)
        if dtype not in _FLOATS or dtype != shapes.dtype(region.output) or set(region.steps) & self._taken:
            return False
        before, after = shapes.of(region.input), shapes.of(region.output)
        if before is None or after is None:
            return before is not None
        return len(before) == len(after) and all(
            a == b or a is None or b is None for a, b in zip(before, after, strict=True)
        )


def _replace(draft: Draft, region: Region, x: ir.Value, reading: Reading) -> tuple[ir.Node, ir.Value]:
    """Put the operator in the place of the region, whose input is now `x`: the operator, and what the result is now."""
    last = region.steps[-1]
    stem = module_path(last) or name_of(last)
    dtype = ir.DataType.DOUBLE if draft.shapes.dtype(region.input) == ir.DataType.DOUBLE else ir.DataType.FLOAT
    scale = draft.new_constant(reading.scale, dtype, draft.fresh(f"{stem}.scale"))
    bias = draft.new_constant(reading.bias, dtype, draft.fresh(f"{stem}.bias"))
    attributes = [
        ir.AttrFloat32("epsilon", float(np.float32(reading.epsilon))),
        ir.AttrFloat32("correction", float(np.float32(reading.correction))),
        *(ir.AttrInt64(name, value) for name, value in reading.parameters.items()),
    ]
    before, rows = _rows_of(draft, x, stem, reading)
    node = ir.Node(
        DOMAIN,
        reading.kind.op(reading.scope),
        [rows, scale, bias],
        attributes,
        name=last.name,
        metadata_props=dict(last.metadata_props),
    )
    after = _out_of_rows(draft, x, node, stem) if before else []
    made = [*before, node, *after]
    draft.graph.insert_after(last, made)
    draft.hand_over(region.output, made[-1].outputs[0], _unread_without(region))
    return node, made[-1].outputs[0]


def _rows_of(draft: Draft, x: ir.Value, stem: str, reading: Reading) -> tuple[list[ir.Node], ir.Value]:
    """`x` as (rows, layer) where the norm is one of layers, with the nodes that make it; else `x` and no nodes."""
    first = reading.extent.first_axis
    if not first:
        return [], x
    flatten = ir.Node("", "Flatten", [x], [ir.AttrInt64("axis", first)], name=draft.fresh(f"{stem}.rows"))
    rows = flatten.outputs[0]
    rows.name = draft.fresh(f"{stem}.in_rows")
    dtype = draft.shapes.dtype(x)
    rows.type = x.type if dtype is None else ir.TensorType(dtype)
    rows.shape = ir.Shape([None, len(reading.scale)])
    return [flatten], rows


def _out_of_rows(draft: Draft, x: ir.Value, node: ir.Node, stem: str) -> list[ir.Node]:
    """What gives the result of `node` the shape of `x` again."""
    normed, rows = node.outputs[0], node.inputs[0]
    assert rows is not None
    normed.name, normed.type, normed.shape = draft.fresh(f"{stem}.normed"), rows.type, rows.shape
    shape = ir.Node("", "Shape", [x], name=draft.fresh(f"{stem}.sizes"))
    shape.outputs[0].name = draft.fresh(f"{stem}.shape")
    shape.outputs[0].type, shape.outputs[0].shape = ir.TensorType(ir.DataType.INT64), None
    back = ir.Node("", "Reshape", [normed, shape.outputs[0]], name=draft.fresh(f"{stem}.back"))
    return [shape, back]


def _unread_without(region: Region) -> list[ir.Node]:
    """The nodes of a region that nothing needs but its output; those of sizes and constants may serve others too."""
    gone: set[ir.Node] = set()
    for node in reversed(region.nodes):
        readers = {use.node for value in node.outputs if value is not region.output for use in value.uses()}
        if readers <= gone and not any(value.is_graph_output() for value in node.outputs if value is not region.output):
            gone.add(node)
    return [node for node in region.nodes if node in gone]
