"""Random small networks of the operators that folding reads, as float64 ONNX models.

A network grows step by step from one input, mostly at its newest value and sometimes at an older one
(which gives that value a second consumer). Every value without a consumer becomes a graph output; so do some
intermediate ones. Sizes stay tiny: batch and channels up to 4, space up to 8.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import overload

import numpy as np
import onnx

from tests.folding import random_layers as layers
from tests.folding import random_layouts as layouts
from tests.folding import random_norms as norms
from tests.folding import random_pools as pools
from tests.folding.build import GraphBuilder
from tests.folding.choices import Choices


@dataclass(frozen=True)
class Value:
    """A tensor of the growing graph: (N, C, *space), or (N, C) after flattening."""

    name: str
    shape: tuple[int, ...]

    @property
    def space(self) -> tuple[int, ...]:
        return self.shape[2:]


class Growth:
    """The graph so far and the decisions that continue it."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.build = GraphBuilder()
        self.rng = np.random.default_rng(choices.integer(0, 2**16))
        space = choices.integer(0, 3)
        sides = [choices.integer(3, 4 if space == 3 else 6) for _ in range(space)]
        shape = (choices.integer(1, 2), choices.integer(1, 4), *sides)
        self.values = [Value(self.build.input(shape), shape)]
        self.used: Counter[str] = Counter()

    @overload
    def pick(self) -> Value: ...

    @overload
    def pick(self, matches: Callable[[Value], bool]) -> Value | None: ...

    def pick(self, matches: Callable[[Value], bool] = lambda value: True) -> Value | None:
        """The newest value that matches, at times an older one; None where nothing matches."""
        fitting = [value for value in self.values if matches(value)]
        if not fitting:
            return None
        value = self.choices.one_of(fitting) if self.choices.chance(10) else fitting[-1]
        self.used[value.name] += 1
        return value

    def add(self, name: str, shape: tuple[int, ...]) -> Value:
        """A new value, from which the graph may grow on."""
        value = Value(name, tuple(shape))
        self.values.append(value)
        return value

    def array(self, *shape: int) -> np.ndarray:
        """Normally distributed float64."""
        return self.rng.standard_normal(shape)

    def shared(self, shape: tuple[int, ...], make: Callable[[], np.ndarray], stem: str) -> str:
        """A constant: fresh (initializer or Constant node), or, sometimes, an older one of the same shape."""
        constants = self.build.constants.items()
        old = [name for name, value in constants if value.shape == shape and value.dtype == self.build.dtype]
        if old and self.choices.chance(12):
            return self.choices.one_of(old)
        return self.build.const(make(), stem, as_node=self.choices.chance(10))


NORMS = (norms.running_norm, norms.batch_normalization, norms.raw_chain)
PRODUCERS = (layers.conv, layers.branches, layers.conv_transpose, layers.gemm, layers.matmul)
BETWEEN = (pools.average_pool, pools.max_pool, pools.global_pool, layers.identity, pools.mean_of_space)
CONSUMERS = (layers.bare_conv, layers.padded_conv, layers.gemm, layers.matmul)


def norm_behind(growth: Growth) -> None:
    """A producer and a norm, at times with something between them that a norm may pass through."""
    growth.choices.one_of(PRODUCERS)(growth)
    if growth.choices.chance(30):
        growth.choices.one_of(BETWEEN)(growth)
    growth.choices.one_of(NORMS)(growth)


def norm_before(growth: Growth) -> None:
    """A norm and a layer that reads it."""
    growth.choices.one_of(NORMS)(growth)
    growth.choices.one_of(CONSUMERS)(growth)


STEPS: tuple[tuple[int, Callable[[Growth], object]], ...] = (
    (20, norm_behind),
    (10, norm_before),
    (2, norms.running_norm),
    (2, norms.batch_normalization),
    (2, norms.raw_chain),
    (1, norms.live_norm),
    (2, layers.conv),
    (1, layers.padded_conv),
    (1, layers.conv_transpose),
    (1, layers.gemm),
    (1, layers.matmul),
    (1, pools.max_pool),
    (1, pools.average_pool),
    (1, pools.global_pool),
    (1, pools.mean_of_space),
    (2, layers.flatten),
    (2, layers.activation),
    (1, layers.identity),
    (3, layers.concat),
    (3, layers.residual_add),
    (1, layers.branches),
    (8, layouts.channels_last),
    (3, layouts.chain_along_some_axis),
    (3, layouts.rows),
    (2, layouts.split_rows),
    (2, layouts.unsqueezed),
    (3, layouts.step_behind_a_layer),
    (3, layouts.step_before_a_layer),
    (1, layouts.step),
    (1, layouts.transpose),
    (1, layouts.no_op),
)
DECK = tuple(step for weight, step in STEPS for _ in range(weight))


def random_model(choices: Choices) -> onnx.ModelProto:
    """A valid model of 1 to 6 steps, opset 20, all floating tensors float64."""
    growth = Growth(choices)
    for _ in range(choices.integer(1, 6)):
        choices.one_of(DECK)(growth)
    rest = growth.values[1:]
    if not rest:
        layers.identity(growth)
        rest = growth.values[1:]
    for value in rest:
        if growth.used[value.name] == 0 or choices.chance(6):
            growth.build.output(value.name)
    if not growth.build.outputs:
        growth.build.output(rest[-1].name)
    if choices.chance(6):
        _let_override(growth)
    if choices.chance(10):
        _leave_unnamed(growth)
    return growth.build.model(infer=choices.chance(80))


def _leave_unnamed(growth: Growth) -> None:
    """Names of nodes are optional in ONNX."""
    for node in growth.build.nodes:
        node.name = ""


def _let_override(growth: Growth) -> None:
    """Make one constant a graph input as well: its value is then only a default."""
    safe = ("weight", "bias", "mean", "gamma", "beta")  # any value is valid for these
    names = [name for name in growth.build.constants if name.startswith(safe)]
    if names:
        name = growth.choices.one_of(names)
        growth.build.input(growth.build.constants[name].shape, name)


def random_feeds(model: onnx.ModelProto, seed: int = 0) -> dict[str, np.ndarray]:
    """Normally distributed values for every graph input, of its type; symbolic dimensions become 2, "one" 1."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for graph_input in model.graph.input:
        dims = [dim.dim_value or {"one": 1}.get(dim.dim_param, 2) for dim in graph_input.type.tensor_type.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(graph_input.type.tensor_type.elem_type)
        feeds[graph_input.name] = rng.standard_normal(dims).astype(dtype)
    return feeds
