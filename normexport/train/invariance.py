"""Which layers are scale invariant: what follows divides by the scale of their weights, so only directions matter.

Told from the traced graph, never from names: a layer is scale invariant where every way on from its output reaches a
norm over statistics of the batch at hand, through operations that keep scale (`operations.py`). Exactly so but for
the norm's
epsilon, which stands beside a statistic that grows with the weight: scaling by a moves y by epsilon/statistic.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn.modules.lazy import LazyModuleMixin

from normexport.errors import UsageError
from normexport.text import first_line
from normexport.train.norm_vectors import Division, divide, has_library_forward, is_norm
from normexport.train.operations import keeps, spatial_axes
from normexport.train.vectors import LINEAR_LAYERS, output_channels


@dataclass(frozen=True)
class InvariantLayer:
    """A layer of which only the directions of its weight vectors matter.

    Attributes:
        path: of the layer, "layer1.0.conv1".
        norm: paths of the norms that its output reaches.
        vectors: how many vectors its weight is: its output channels under batch and instance norms, the groups under
            group norm, 1 under layer norm.
    """

    path: str
    norm: str
    vectors: int


@dataclass(frozen=True)
class ScaleInvariance:
    """Of every layer with a weight, whether it is scale invariant.

    Attributes:
        layers: those that are.
        others: path -> the reason, of those that are not.
    """

    layers: tuple[InvariantLayer, ...]
    others: Mapping[str, str]


class _Not(Exception):
    """The reason why a layer is not scale invariant."""


def find_scale_invariant(
    model: nn.Module, example: Any = None, *, channel_norms: tuple[type[nn.Module], ...] = ()
) -> ScaleInvariance:
    """Tell which Conv, ConvTranspose and Linear layers are scale invariant in training, and why others are not.

    Norms are those of torch.nn and of `normexport.nn`. A bias is no obstacle where nothing but a max-pool stands
    before a batch or instance norm, whose mean takes it off.

    Args:
        model: traced by torch.fx; not run, unless there is an example. Of a wrapper (torch.compile, DataParallel,
            DistributedDataParallel, AveragedModel) the network inside, and paths are those in it.
        example: an input tensor, or a tuple of inputs, for a copy of the model to be run on once: what follows a Linear
            is decided by the number of axes, which only a run tells.
        channel_norms: classes of one's own that normalise each channel of axis 1 by statistics of the batch, as
            BatchNorm does.

    Raises:
        UsageError: the model can't be traced, or does not take the example; or it is lazy and has no sizes yet.
    """
    model = network_in(model)
    _refuse_lazy(model)
    graph = _trace(model, channel_norms)
    if example is not None:
        _run(graph, example)
    search = _Search(graph, model, channel_norms)
    layers, others = [], {}
    for path, layer in model.named_modules():
        if isinstance(layer, LINEAR_LAYERS):
            try:
                layers.append(search.invariant(path, layer))
            except _Not as reason:
                others[path] = str(reason)
    return ScaleInvariance(tuple(layers), others)


def network_in(model: nn.Module) -> nn.Module:
    """The network in wrappers of PyTorch: torch.compile, DataParallel, DistributedDataParallel, AveragedModel."""
    while type(model).__module__.startswith("torch.") and list(model._modules) in (["module"], ["_orig_mod"]):
        (model,) = model.children()
    return model


def _refuse_lazy(model: nn.Module) -> None:
    for path, module in model.named_modules():
        if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():  # type: ignore[misc]  # a mixin types its self as another class
            raise UsageError(path or type(module).__name__, "is lazy and has no size yet", "run the model once first")


def _trace(model: nn.Module, channel_norms: tuple[type[nn.Module], ...]) -> fx.GraphModule:
    class Tracer(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, qualified_name: str) -> bool:
            return (
                is_norm(m, channel_norms) or isinstance(m, LINEAR_LAYERS) or super().is_leaf_module(m, qualified_name)
            )

    try:
        return fx.GraphModule(model, Tracer().trace(model))
    except Exception as error:  # of the model's own code
        cause = f"can't be traced by torch.fx ({first_line(error, 160)})"
        remedy = "keep branches over values in functions marked by torch.fx.wrap, or pass the part that traces"
        raise UsageError(type(model).__name__, cause, remedy) from error


def _run(graph: fx.GraphModule, example: Any) -> None:
    """Note the shape of every value, by a run of a copy: statistics and random numbers stay what they were."""
    inputs = example if isinstance(example, (tuple, list)) else (example,)
    runner = copy.deepcopy(graph)
    try:
        with torch.random.fork_rng(), torch.no_grad():
            ShapeProp(runner).propagate(*inputs)
    except Exception as error:  # of the model's own code
        cause = f"does not take the example ({first_line(error, 160)})"
        raise UsageError(
            type(graph).__name__, cause, "pass what the model is called with, a tuple of several"
        ) from error
    for node, run in zip(graph.graph.nodes, runner.graph.nodes, strict=True):
        node.meta.update(run.meta)


class _Search:
    """A walk from each layer to the norms behind it."""

    def __init__(self, graph: fx.GraphModule, model: nn.Module, channel_norms: tuple[type[nn.Module], ...]) -> None:
        self._model, self._channel_norms = model, channel_norms
        self._modules = dict(model.named_modules(remove_duplicate=False))
        self._nodes = list(graph.graph.nodes)
        self._names: dict[int, list[str]] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            self._names.setdefault(id(parameter), []).append(name)

    def invariant(self, path: str, layer: nn.Module) -> InvariantLayer:
        self._check_weight(path, layer)
        calls = [node for node in self._nodes if self._module(node) is layer]
        if not calls:
            raise _Not("the traced graph does not call it")
        reached = [each for call in calls for each in self._norms_behind(call, call, layer, shift_left=True)]
        vectors = math.gcd(*(division.vectors for _, division in reached))
        norms = dict.fromkeys(norm for norm, _ in reached)
        return InvariantLayer(path, ", ".join(norms), vectors)

    def _check_weight(self, path: str, layer: nn.Module) -> None:
        if not has_library_forward(layer):
            raise _Not(f"{type(layer).__name__} has a forward of its own")
        weight = dict(layer.named_parameters(recurse=False)).get("weight")
        if weight is None:
            raise _Not("its weight is computed of other parameters (a parametrization), not learned itself")
        own = f"{path}.weight" if path else "weight"
        names = [name for name in self._names[id(weight)] if name != own]
        if names:
            raise _Not(f"its weight is {names[0]} too")
        if any(node.op == "get_attr" and node.target == own for node in self._nodes):
            raise _Not("its weight is used outside of the layer too")

    def _module(self, node: fx.Node) -> nn.Module | None:
        return self._modules.get(str(node.target)) if node.op == "call_module" else None

    def _norms_behind(
        self, node: fx.Node, call: fx.Node, layer: nn.Module, shift_left: bool
    ) -> Iterator[tuple[str, Division]]:
        """(path, what it does) of the norm at the end of every way from `node`, a value of the layer's scale."""
        if not node.users:
            raise _Not("nothing uses its output")
        for user in node.users:
            module = self._module(user)
            if module is not None and is_norm(module, self._channel_norms):
                yield str(user.target), self._division(user, module, call, layer, shift_left)
                continue
            scale, shift = keeps(user, node, module)
            if not scale:
                raise _Not(f"its output goes into {self._words(user)} before any norm")
            yield from self._norms_behind(user, call, layer, shift_left and shift)

    def _division(self, user: fx.Node, norm: nn.Module, call: fx.Node, layer: nn.Module, shift_left: bool) -> Division:
        path = str(user.target)
        division = divide(norm, output_channels(layer), self._model.training)
        if isinstance(division, str):
            raise _Not(f"its norm {path} {division}")
        if getattr(layer, "bias", None) is not None and not (shift_left and division.takes_bias_off):
            raise _Not(f"it has a bias that its norm {path} does not take off")
        self._check_axis(path, division, call, layer)
        return division

    def _check_axis(self, path: str, division: Division, call: fx.Node, layer: nn.Module) -> None:
        axes = _axes_of(call)
        spatial = spatial_axes(layer)
        if spatial is not None:
            if division.axis == -1 or (axes is not None and axes != spatial + 2):
                raise _Not(f"its norm {path} takes its statistics over another axis than its channels")
            return
        if division.axis == 1 and axes is None:
            raise _Not(
                f"its norm {path} is of axis 1, which is the channels' where x has two axes: pass example= to tell"
            )
        if division.axis == 1 and axes != 2:
            raise _Not(f"its norm {path} is of axis 1, and its channels are on axis {(axes or 0) - 1}")

    def _words(self, node: fx.Node) -> str:
        if node.op == "output":
            return "the model's output"
        if node.op == "call_module":
            return f"{node.target} ({type(self._module(node)).__name__})"
        return str(getattr(node.target, "__name__", node.target))


def _axes_of(node: fx.Node) -> int | None:
    meta = node.meta.get("tensor_meta")
    shape = getattr(meta, "shape", None)
    return None if shape is None else len(shape)


def layers_of(model: nn.Module, found: ScaleInvariance) -> dict[str, tuple[nn.Module, int]]:
    """path -> (the layer, how many vectors its weight is), of those that are scale invariant."""
    network = network_in(model)
    return {each.path: (network.get_submodule(each.path), each.vectors) for each in found.layers}


def trainable_weight(layer: nn.Module) -> nn.Parameter:
    """The parameter of a scale-invariant layer."""
    weight = layer.weight
    assert isinstance(weight, nn.Parameter)
    return weight
