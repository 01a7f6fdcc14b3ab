"""What int8 saves of each module on a runtime, what it costs between modules, and where it pays.

A module takes f_m seconds in float32 and q_m in int8; a tensor of n numbers whose maker is in one of the two and a
reader in the other takes c n to change. All three come from the runtime's own times of models that were made
(`timing.kernels`): f_m and q_m are means over those in which m was so, c is fitted to the kernels that only convert by
least squares through zero. The placement with the least sum

    sum of f_m outside int8 + sum of (q_m + p_m) in int8 + sum of c n_t over tensors that change

is a smallest cut (`min_cut`). Penalties p_m buy accuracy for time.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from normexport.folding.constants import Constants
from normexport.graphs.nodes import op
from normexport.norms import DOMAIN
from normexport.precision.half.search import group_of
from normexport.precision.int8.clips import CLIPS
from normexport.precision.int8.min_cut import SINK, SOURCE, smallest_cut
from normexport.precision.int8.pairs import DIRECT
from normexport.precision.int8.quantise import is_candidate, modules_of
from normexport.timing.kernels import Kernel

#: Kernels that compute nothing: they change the type of numbers, or how they lie, for the next.
_CONVERTING = (
    "QuantizeLinear",
    "DequantizeLinear",
    "FakeQuantize",
    "Reorder",
    "ReorderInput",
    "ReorderOutput",
    "Convert",
)
_TURNING = "Transpose"  # too, where no node of the model is called so


@dataclass(frozen=True)
class Tensor:
    """A tensor between modules: its maker and its readers, None where these are float32 whatever happens."""

    maker: str | None
    readers: frozenset[str | None]
    numbers: int

    def changes(self, excluded: Collection[str]) -> bool:
        """Whether it is needed in another type than it is made in, with these modules in float32."""
        made, *read = (each is not None and each not in excluded for each in (self.maker, *self.readers))
        return any(each is not made for each in read)


@dataclass(frozen=True)
class Parts:
    """A model as placement sees it.

    Attributes:
        modules: that may be in int8 or not, in graph order.
        tensors: between them.
        names: the module of every node and tensor by its name; None of those that are float32 whatever happens.
    """

    modules: tuple[str, ...]
    tensors: tuple[Tensor, ...]
    names: Mapping[str, str | None]


@dataclass(frozen=True)
class Sample:
    """A model that was made: the modules in float32, and the kernels that a runtime made of it."""

    excluded: frozenset[str]
    kernels: tuple[Kernel, ...]


@dataclass(frozen=True)
class Costs:
    """Seconds of each module in int8 and in float32, and of each number that changes between the two."""

    int8: Mapping[str, float]
    float32: Mapping[str, float]
    number: float

    @property
    def saved(self) -> float:
        """Seconds that int8 saves where it does."""
        return sum(max(0.0, self.float32[each] - self.int8[each]) for each in self.int8)


def parts_of(model: ir.Model, kept: Collection[str], sizes: Mapping[str, int]) -> Parts:
    """The modules of a float32 model that may be in int8, and what passes between them.

    A ReLU, and what moves or chooses numbers, goes with what makes its input.

    Args:
        kept: modules that stay in float32.
        sizes: how many numbers each tensor has, by its name.
    """
    constants = Constants(model.graph)
    modules = tuple(each for each in modules_of(model) if each not in kept)
    owners: dict[ir.Node, str | None] = {}
    names: dict[str, str | None] = {}
    for node in model.graph:
        group = group_of(node)
        if op(node) in (*CLIPS, *DIRECT) and node.domain != DOMAIN:
            source = node.inputs[0].producer() if node.inputs[0] is not None else None
            owners[node] = owners.get(source) if source is not None else None
        else:
            owners[node] = group if group in modules and is_candidate(node, constants) else None
        names.update({str(name): owners[node] for name in (node.name, *(each.name for each in node.outputs)) if name})
    tensors = []
    for value in [*model.graph.inputs, *(each for node in model.graph for each in node.outputs)]:
        producer = value.producer()
        maker = None if producer is None else owners.get(producer)
        readers = frozenset(owners.get(use.node) for use in value.uses())
        if readers - {maker} and str(value.name) in sizes:
            tensors.append(Tensor(maker, readers, sizes[str(value.name)]))
    return Parts(modules, tuple(tensors), names)


def fit(parts: Parts, samples: Sequence[Sample]) -> Costs:
    """The costs by all models that were made so far, of which one is in float32 and one in int8 throughout."""
    sums: dict[tuple[str, bool], list[float]] = {}
    converting: list[tuple[float, float]] = []
    for sample in samples:
        own = dict.fromkeys(parts.modules, 0.0)
        changed = 0.0
        for kernel in sample.kernels:
            module = _module_of(kernel, parts.names)
            if _converts(kernel, parts.names):
                changed += kernel.seconds
            elif module in own:
                own[str(module)] += kernel.seconds
        for module, seconds in own.items():
            sums.setdefault((module, module in sample.excluded), []).append(seconds)
        numbers = sum(each.numbers for each in parts.tensors if each.changes(sample.excluded))
        converting.append((float(numbers), changed))
    means = {key: sum(each) / len(each) for key, each in sums.items()}
    square = sum(numbers * numbers for numbers, _ in converting)
    number = sum(numbers * seconds for numbers, seconds in converting) / square if square else 0.0
    int8, float32 = ({each: means.get((each, out), 0.0) for each in parts.modules} for out in (False, True))
    return Costs(int8, float32, number)


def cheapest(parts: Parts, costs: Costs, penalties: Mapping[str, float] | None = None) -> frozenset[str]:
    """The modules to leave in float32 so that all of it takes least.

    Args:
        penalties: seconds to add to each module in int8.
    """
    edges: dict[tuple[Hashable, Hashable], float] = {}
    vertices = {each: ("module", each) for each in parts.modules}
    for module, vertex in vertices.items():
        edges[SOURCE, vertex] = costs.float32[module]
        edges[vertex, SINK] = costs.int8[module] + (penalties or {}).get(module, 0.0)
    for index, tensor in enumerate(parts.tensors):
        seconds = costs.number * tensor.numbers
        dequantized, quantized = ("dequantized", index), ("quantized", index)
        if tensor.maker is not None:
            edges[vertices[tensor.maker], dequantized] = seconds
        edges[quantized, SINK if tensor.maker is None else vertices[tensor.maker]] = seconds
        for reader in tensor.readers:
            if reader is None:
                edges[dequantized, SINK] = math.inf
            else:
                edges[dequantized, vertices[reader]] = edges[vertices[reader], quantized] = math.inf
    inside = smallest_cut(edges)
    return frozenset(each for each, vertex in vertices.items() if vertex not in inside)


def cheapest_with_some(parts: Parts, costs: Costs) -> frozenset[str]:
    """As `cheapest`, of the placements that leave something in int8; everything where there is nothing to leave."""
    found = cheapest(parts, costs)
    if len(found) < len(parts.modules):
        return found
    ways = [cheapest(parts, replace(costs, float32={**costs.float32, module: math.inf})) for module in parts.modules]
    return min(ways, key=lambda way: seconds_of(parts, costs, way), default=found)


def seconds_of(parts: Parts, costs: Costs, excluded: Collection[str]) -> float:
    """What the sum above is for a placement, without penalties."""
    modules = sum((costs.float32 if each in excluded else costs.int8)[each] for each in parts.modules)
    return modules + costs.number * sum(each.numbers for each in parts.tensors if each.changes(excluded))


def _converts(kernel: Kernel, names: Mapping[str, str | None]) -> bool:
    return kernel.operator in _CONVERTING or (kernel.operator == _TURNING and kernel.name not in names)


def _module_of(kernel: Kernel, names: Mapping[str, str | None]) -> str | None:
    """The module of the node or tensor that a kernel is called by: the longest name that it begins with."""
    name = kernel.name
    while name and name not in names:
        ends = max(name.rfind("_"), name.rfind("/"))
        name = name[:ends] if ends > 0 else ""
    return names.get(name)
