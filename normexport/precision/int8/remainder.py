"""What stays out of eight bits in a half type: everything between QuantizeLinear and DequantizeLinear.

`precision.half` says which modules have to stay in float32 and what stands for masks, on the float32 model; so does the
search for more, where the half type alone would take too much of what the limit allows. On the quantised graph then

    layer (half) -> Q -> DQ -> layer (half)          both scales in the half type
    softmax (float32) -> Q(float32 scale) -> DQ -> layer (half)

each QuantizeLinear has the type of what it reads and each DequantizeLinear that of its readers, so that a change of
type at a pair needs no Cast; with readers of both types there are two DequantizeLinear of one quantised value. Scales
are numbers of the half type from the start (`storage`). Operator sets below 19 know float32 scales alone: Casts stand
around the pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from normexport import norms
from normexport.dtypes import FLOAT16, FLOAT32, HALVES
from normexport.errors import FoldError
from normexport.graphs.names import Names
from normexport.graphs.nodes import op
from normexport.precision.config import EightBit, Half
from normexport.precision.half.graph import HalfConfig, to_half
from normexport.precision.half.rounding import rounding_in_float32
from normexport.precision.half.search import Halved, KeptModule, WeightLoss, group_of, halve
from normexport.precision.half.types import nodes_in_half, opset_for, reads_half, refuse_subgraphs, schema_of
from normexport.precision.later_opset import in_later_opset
from normexport.runtime import Feeds

#: From here on QuantizeLinear and DequantizeLinear have scales in half types.
HALF_SCALES_FROM = 19
_PAIR = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Remainder:
    """The type of what is not in eight bits.

    Attributes:
        dtype: "float32", "float16" or "bfloat16".
        half_io: whether inputs and outputs have it too.
        kept: modules in float32 all the same, with reasons.
        losses: what weights lost in it.
        notes: in words.
    """

    dtype: str = FLOAT32.name
    half_io: bool = False
    kept: tuple[KeptModule, ...] = ()
    losses: tuple[WeightLoss, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_half(self) -> bool:
        return self.dtype in HALVES

    def store(self, quantised: ir.Model) -> ir.Model:
        """The quantised model with its remainder in this type; itself where that is float32."""
        if not self.is_half:
            return quantised
        norms.register_schemas()
        kept = frozenset(module.path for module in self.kept)
        copy = quantised.clone()
        wide = _Pairs(copy, self, kept).in_float32()

        def keep(node: ir.Node) -> bool:
            return node.name in wide if op(node) in _PAIR else group_of(node) in kept

        return to_half(copy, HalfConfig(self.dtype, self.half_io, keep))


#: float32, as the model is.
FULL = Remainder()


def as_written(model: ir.Model) -> ir.Model:
    """A model that computes on ONNX Runtime's CPU what the file says: half types rounded once, in float32 graphs.

    The model itself where it holds no half type.
    """
    halves = {each.ir for each in HALVES.values()}
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    return rounding_in_float32(model) if any(value.dtype in halves for value in values) else model


def with_remainder(config: EightBit, model: ir.Model, for_engine: bool) -> tuple[EightBit, tuple[str, ...]]:
    """The config with the type of the remainder said, and a note where the default is another than usual."""
    if config.remainder is not None:
        return config, ()
    if not for_engine:
        return replace(config, remainder=FLOAT32.name), ()
    try:
        refuse_subgraphs(model)
    except FoldError as error:
        note = f"what is not in eight bits stays float32: {error.place} {error.cause}"
        return replace(config, remainder=FLOAT32.name), (note,)
    return replace(config, remainder=FLOAT16.name), ()


def plan_remainder(
    model: ir.Model, config: EightBit, feeds: Sequence[Feeds], accepts: Callable[[ir.Model], bool] | None
) -> tuple[ir.Model, Remainder]:
    """What to quantise in place of a float32 model, and how to store the rest.

    Args:
        feeds: inputs on which tensors are looked at for overflow.
        accepts: whether a model in the half type alone is near enough; None: do not ask.

    Raises:
        UsageError, FoldError: see `precision.half.search.halve`.
    """
    if config.rest not in HALVES:
        return model, FULL
    half = Half(config.rest, config.io_dtype, config.keep)
    judge = None if accepts is None else _by_model(accepts)
    found = halve(model, half, feeds, judge)
    source = model if found.source is None else found.source
    rest = Remainder(config.rest, config.io_dtype == config.rest, found.kept, found.losses, found.notes)
    return in_later_opset(source, opset_for(source, config.rest)), rest


def _by_model(accepts: Callable[[ir.Model], bool]) -> Callable[[Halved], bool]:
    return lambda halved: accepts(halved.model)


@dataclass
class _Pairs:
    """Settles the type of each QuantizeLinear and DequantizeLinear of a graph."""

    model: ir.Model
    rest: Remainder
    kept: frozenset[str]
    half: set[ir.Node] = field(default_factory=set)

    def in_float32(self) -> set[str]:
        """Names of those that are in float32; DequantizeLinear with readers of both types are made two."""
        opset = opset_for(self.model, self.rest.dtype)
        if opset < HALF_SCALES_FROM:
            return set()
        nodes = nodes_in_half(self.model, self.rest.dtype)
        self.half = {node for node in nodes if op(node) not in _PAIR and group_of(node) not in self.kept}
        wide, fresh = set[str](), Names(self.model.graph).fresh
        for node in list(self.model.graph):
            if op(node) == "QuantizeLinear":
                if not self._makes_half(node.inputs[0]):
                    wide.add(str(node.name))
                else:
                    self.half.add(node)
            elif op(node) == "DequantizeLinear":
                uses = [use for use in node.outputs[0].uses() if not self._reads_half(use.node, use.idx, opset)]
                total = len(node.outputs[0].uses()) + node.outputs[0].is_graph_output()
                if len(uses) == total or (not total and not self.rest.half_io):
                    wide.add(str(node.name))
                    continue
                self.half.add(node)
                if uses:
                    twin = _twin(node, fresh)
                    wide.add(str(twin.name))
                    for use in uses:
                        use.node.replace_input_with(use.idx, twin.outputs[0])
        return wide

    def _makes_half(self, value: ir.Value | None) -> bool:
        producer = None if value is None else value.producer()
        return self.rest.half_io if producer is None else producer in self.half

    def _reads_half(self, node: ir.Node, index: int, opset: int) -> bool:
        if op(node) in _PAIR:
            return True  # a QuantizeLinear follows
        schema = schema_of(node, opset) if node in self.half else None
        return schema is not None and reads_half(node, schema, index, HALVES[self.rest.dtype].ir)


def _twin(node: ir.Node, fresh: Callable[[str], str]) -> ir.Node:
    """A second DequantizeLinear of the same value, right behind the first."""
    twin = ir.Node(
        "", node.op_type, list(node.inputs), list(node.attributes.values()), name=fresh(f"{node.name}_float32")
    )
    made, like = twin.outputs[0], node.outputs[0]
    made.name, made.type, made.shape = fresh(f"{like.name}_float32"), like.type, like.shape
    assert node.graph is not None
    node.graph.insert_after(node, twin)
    return twin
