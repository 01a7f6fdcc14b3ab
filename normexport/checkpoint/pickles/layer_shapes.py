"""Shapes of a layer's weights must be those that its attributes say: kernels of PyTorch read by the attributes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.rnn import RNNCellBase

from normexport.checkpoint.pickles.inert import BadPickle
from normexport.nn import BoundedWeightNorm, Norm, RunningNorm
from normexport.norms import KINDS, OTHER_RUNNING, Scope

State = dict[str, Any]
Shape = tuple[int, ...]

#: Gates per hidden unit.
_GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1, "LSTMCell": 4, "GRUCell": 3, "RNNCell": 1}


def require_shapes(kind: type[nn.Module], label: str, state: State) -> None:
    """Compare the shapes of a module's parameters and buffers with its attributes.

    Args:
        label: what it is called in messages.
        state: its `__dict__`, every value of a checked type.

    Raises:
        BadPickle: an attribute or a weight is missing, or they do not fit together.
    """
    rule = next((rule for base, rule in _RULES if issubclass(kind, base)), None)
    if rule is None:
        return
    try:
        expected = dict(rule(kind, state))
    except KeyError as error:
        raise BadPickle(f"{label} lacks {error.args[0]}") from None
    except _Contradiction as error:
        raise BadPickle(f"{label} contradicts itself: {error}") from None
    held = {**state["_parameters"], **state["_buffers"]}
    for name, shapes in expected.items():
        value, allowed = _value(held, name), shapes if isinstance(shapes, list) else [shapes]
        if value is _ABSENT:
            raise BadPickle(f"{label} lacks {name}")
        shape = None if value is None else tuple(value.shape)
        if shape not in allowed:
            words = "none" if shape is None else "x".join(map(str, shape)) or "one number"
            raise BadPickle(f"{label} has a {name} ({words}) that does not fit its other numbers")


class _Contradiction(Exception):
    """Attributes of a layer that exclude each other, in words."""


_ABSENT = object()


def _value(held: State, name: str) -> Any:
    """A weight by its name; the direction where the older weight norm keeps it in two parts."""
    return held.get(name, held.get(f"{name}_v", _ABSENT))


def _require(holds: bool, words: str) -> None:
    if not holds:
        raise _Contradiction(words)


def _axes(kind: type[nn.Module]) -> int:
    return next(int(part) for part in "123" if f"{part}d" in kind.__name__)


def _convolution(kind: type[nn.Module], state: State) -> Iterator[tuple[str, Any]]:
    axes = _axes(kind)
    inputs, outputs, groups = state["in_channels"], state["out_channels"], state["groups"]
    kernel, transposed = state["kernel_size"], issubclass(kind, _ConvTransposeNd)
    for name in ("kernel_size", "stride", "dilation", "output_padding"):
        _require(isinstance(state[name], tuple) and len(state[name]) == axes, f"{name} has no {axes} numbers")
    padding = state["padding"]
    _require(isinstance(padding, str) or (isinstance(padding, tuple) and len(padding) == axes), "padding")
    _require(isinstance(padding, str) or min(padding) >= 0, "padding is negative")
    _require(inputs % groups == 0 and outputs % groups == 0, f"{groups} groups of {inputs} and {outputs} channels")
    doubled = state.get("_reversed_padding_repeated_twice")
    _require(doubled is None or len(doubled) == 2 * axes, "padding")
    _require(state.get("transposed", transposed) is transposed, "transposed")
    yield "weight", (inputs, outputs // groups, *kernel) if transposed else (outputs, inputs // groups, *kernel)
    yield "bias", [(outputs,), None]


def _linear(kind: type[nn.Module], state: State) -> Iterator[tuple[str, Any]]:
    yield "weight", (state["out_features"], state["in_features"])
    yield "bias", [(state["out_features"],), None]


def _bilinear(kind: type[nn.Module], state: State) -> Iterator[tuple[str, Any]]:
    yield "weight", (state["out_features"], state["in1_features"], state["in2_features"])
    yield "bias", [(state["out_features"],), None]


def _batch_norm(kind: type[nn.Module], state: State) -> Iterator[tuple[str, Any]]:
    """Of torch and of normexport, whose statistic is called running_scale."""
    vector: list[Any] = [(state["num_features"],), None]
    missing = {"momentum", "affine", "track_running_stats"} - state.keys()
    if missing:
        raise KeyError(min(missing))
    _require(state["eps"] is not None, "eps")
    spread = "running_scale" if issubclass(kind, Norm) else "running_var"
    if issubclass(kind, Norm):
        _require(type(state["correction"]) in (int, float), "correction")
        _require(all(type(state[name]) is int for name in KINDS[kind.kind].parameters), "its parameters")
        _require_groups(kind, state)
        vector[0] = tuple(state.get("normalized_shape", vector[0]))
    statistics = ("running_mean", spread)
    both = {name: state["_buffers"].get(name) is None for name in statistics}
    _require(len(set(both.values())) == 1, "one of its running statistics is missing")
    for name in ("weight", "bias", *statistics):
        yield name, vector
    if "num_batches_tracked" in state["_buffers"]:
        yield "num_batches_tracked", [(), None]


def _require_groups(kind: type[Norm], state: State) -> None:
    channels, groups = state["num_features"], state.get("num_groups", 0)
    _require((groups > 0) is (kind.scope is Scope.GROUP), f"{groups} groups")
    _require(groups == 0 or channels % groups == 0, f"{groups} groups of {channels} channels")
    _require(math.prod(state.get("normalized_shape", (channels,))) == channels, f"{channels} numbers of its shape")


def _running_norm(kind: type[nn.Module], state: State) -> Iterator[tuple[str, Any]]:
    mean = state["_buffers"].get("mean")
    _require(mean is not None and mean.dim() == 1, "mean")
    _require(state["kind"] in KINDS or state["kind"] in OTHER_RUNNING, "kind")
    for name in ("mean", "inv_scale", "weight", "bias"):
        yield name, (len(mean),)


def _layer_norm(kind: type[nn.Module], state: State) -> Iterator[tuple[str, Any]]:
    shape = tuple(state["normalized_shape"])
    yield "weight", [shape, None]
    if issubclass(kind, nn.LayerNorm) and "bias" in state["_parameters"]:
        yield "bias", [shape, None]


def _group_norm(kind: type[nn.Module], state: State) -> Iterator[tuple[str, Any]]:
    channels, groups = state["num_channels"], state["num_groups"]
    _require(channels % groups == 0, f"{groups} groups of {channels} channels")
    yield "weight", [(channels,), None]
    yield "bias", [(channels,), None]


def _embedding(kind: type[nn.Module], state: State) -> Iterator[tuple[str, Any]]:
    rows, index = state["num_embeddings"], state.get("padding_idx")
    _require(index is None or -rows <= index < rows, "padding_idx is no row")
    yield "weight", (rows, state["embedding_dim"])


def _prelu(kind: type[nn.Module], state: State) -> Iterator[tuple[str, Any]]:
    yield "weight", (state["num_parameters"],)


def _recurrent(kind: type[nn.Module], state: State) -> Iterator[tuple[str, Any]]:
    """weight_ih_l{k} (gates*hidden, input), weight_hh_l{k} (gates*hidden, hidden or projected), weight_hr_l{k}."""
    layers, hidden, projected = state["num_layers"], state["hidden_size"], state.setdefault("proj_size", 0)
    _require(layers <= len(state["_parameters"]) + len(state["_buffers"]), f"{layers} layers")
    _require(projected < hidden and (not projected or issubclass(kind, nn.LSTM)), "proj_size")
    modes = {nn.LSTM: ("LSTM",), nn.GRU: ("GRU",), nn.RNN: ("RNN_TANH", "RNN_RELU")}
    _require(any(issubclass(kind, each) and state["mode"] in words for each, words in modes.items()), "mode")
    rows, out = _GATES[state["mode"]] * hidden, projected or hidden
    directions = ("", "_reverse") if state["bidirectional"] else ("",)
    for layer in range(layers):
        for direction in directions:
            end = f"l{layer}{direction}"
            yield f"weight_ih_{end}", (rows, state["input_size"] if layer == 0 else out * len(directions))
            yield f"weight_hh_{end}", (rows, out)
            if state["bias"]:
                yield f"bias_ih_{end}", (rows,)
                yield f"bias_hh_{end}", (rows,)
            if projected:
                yield f"weight_hr_{end}", (projected, hidden)


def _recurrent_cell(kind: type[nn.Module], state: State) -> Iterator[tuple[str, Any]]:
    hidden = state["hidden_size"]
    rows = _GATES[kind.__name__] * hidden if kind.__name__ in _GATES else 0
    _require(rows > 0, "its kind")
    yield "weight_ih", (rows, state["input_size"])
    yield "weight_hh", (rows, hidden)
    for name in ("bias_ih", "bias_hh"):
        yield name, [(rows,), None]


def _attention(kind: type[nn.Module], state: State) -> Iterator[tuple[str, Any]]:
    size, heads, dim = state["embed_dim"], state["num_heads"], state["head_dim"]
    _require(heads * dim == size, f"{heads} heads of {dim} in {size}")
    same = state.setdefault("_qkv_same_embed_dim", True)
    if same:
        yield "in_proj_weight", (3 * size, size)
    else:
        for name, width in (
            ("q_proj_weight", size),
            ("k_proj_weight", state["kdim"]),
            ("v_proj_weight", state["vdim"]),
        ):
            yield name, (size, width)
    yield "in_proj_bias", [(3 * size,), None]
    for name in ("bias_k", "bias_v"):
        if name in state["_parameters"]:
            yield name, [(1, 1, size), None]
    out = state["_modules"].get("out_proj")
    fits = isinstance(out, nn.Linear) and (out.in_features, out.out_features) == (size, size)
    _require(fits, "its output projection is no layer of its size")


def _bounded_weight(kind: type[nn.Module], state: State) -> Iterator[tuple[str, Any]]:
    rho = state["_buffers"].get("rho")
    _require(rho is not None, "rho")
    _require(type(state["axis"]) is int and state["p"] > 0, "p")
    yield "rho", tuple(rho.shape)


def _wrapper(kind: type[nn.Module], state: State) -> Iterator[tuple[str, Any]]:
    _require(isinstance(state["_modules"].get("module"), nn.Module), "it wraps no network")
    yield from ()


def _unflatten(kind: type[nn.Module], state: State) -> Iterator[tuple[str, Any]]:
    numbers = [each if type(each) is int else each[1] for each in state["unflattened_size"]]
    _require(math.prod(abs(each) for each in numbers) < 1 << 40 and numbers.count(-1) <= 1, "unflattened_size")
    yield from ()


#: The first that a class is of decides.
_RULES: tuple[tuple[type[nn.Module], Callable[[type[nn.Module], State], Iterator[tuple[str, Any]]]], ...] = (
    (_ConvNd, _convolution),
    (nn.Linear, _linear),
    (nn.Bilinear, _bilinear),
    (_NormBase, _batch_norm),
    (Norm, _batch_norm),
    (RunningNorm, _running_norm),
    (BoundedWeightNorm, _bounded_weight),
    (nn.LayerNorm, _layer_norm),
    (nn.RMSNorm, _layer_norm),
    (nn.GroupNorm, _group_norm),
    (nn.Embedding, _embedding),
    (nn.EmbeddingBag, _embedding),
    (nn.PReLU, _prelu),
    (nn.RNNBase, _recurrent),
    (RNNCellBase, _recurrent_cell),
    (nn.MultiheadAttention, _attention),
    (nn.Unflatten, _unflatten),
    (nn.DataParallel, _wrapper),
)
