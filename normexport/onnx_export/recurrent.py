"""LSTM, GRU and RNN over a length that stays open: whole in the trace, one node of ONNX for each layer.

torch traces them step by step, and so fixes how many steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from onnxscript.values import Opset
from torch._C import DispatchKey
from torch._decomp import decomposition_table
from torch._subclasses.fake_tensor import FakeTensor

from normexport import norms

_KEYS = (DispatchKey.CompositeImplicitAutograd, DispatchKey.Autograd)
_STANDARD = Opset("", norms.OPSET)
_GATES = {"GRU": (1, 0, 2), "RNN": (0,)}  # torch's reset, update, new are ONNX's update, reset, hidden


@contextmanager
def recurrent_layers_whole() -> Iterator[None]:
    """LSTM, GRU and RNN in a trace tell the shapes of their results and nothing else; with numbers they compute.

    torch's own rule runs the layer's steps on tensors without numbers, whose count must then be one number. In the
    program the layer is one operator either way.
    """
    aten = torch.ops.aten
    operators: list[Any] = [aten.lstm.input, aten.gru.input, aten.rnn_tanh.input, aten.rnn_relu.input]
    before = {operator: dict(operator.py_kernels) for operator in operators}
    rules = {operator: decomposition_table[operator] for operator in operators if operator in decomposition_table}
    try:
        for operator in operators:
            own = next((operator.py_kernels[key] for key in _KEYS if key in operator.py_kernels), operator)
            operator.py_kernels.update(dict.fromkeys(_KEYS, _shapes_or(own)))
            operator._dispatch_cache.clear()
            if operator in rules:  # asked by tensors without numbers while the program is translated
                decomposition_table[operator] = _shapes_or(own)
        yield
    finally:
        decomposition_table.update(rules)
        for operator, kernels in before.items():
            operator.py_kernels.clear()
            operator.py_kernels.update(kernels)
            operator._dispatch_cache.clear()


def _shapes_or(own: Callable[..., Any]) -> Callable[..., Any]:
    """The results' shapes for a traced tensor; torch's `own` kernel for one with numbers, such as a constant."""

    def kernel(input: torch.Tensor, *rest: Any, **named: Any) -> Any:
        return (_shapes if isinstance(input, FakeTensor) else own)(input, *rest, **named)

    return kernel


def _shapes(
    input: torch.Tensor,
    hx: torch.Tensor | Sequence[torch.Tensor],
    params: Sequence[torch.Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, ...]:
    """The output, as the input but for its features, and the states: two of an LSTM, one of the others."""
    states = [hx] if isinstance(hx, torch.Tensor) else list(hx)
    features = states[0].shape[-1] * (2 if bidirectional else 1)
    return input.new_empty((*input.shape[:-1], features)), *map(torch.empty_like, states)


def recurrent_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """torch operator -> function that emits its ONNX nodes, of GRU and RNN; that of an LSTM is the exporter's own."""
    aten = torch.ops.aten
    return {
        aten.gru.input: partial(_layers, "GRU", {"linear_before_reset": 1}),
        aten.rnn_tanh.input: partial(_layers, "RNN", {"activations": "Tanh"}),
        aten.rnn_relu.input: partial(_layers, "RNN", {"activations": "Relu"}),
    }


def _layers(
    kind: str,
    attributes: dict[str, Any],
    input: Any,
    hx: Any,
    params: Sequence[Any],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Any, Any]:
    """One node a layer; its weights are W (directions, gates * hidden, inputs), R as W of the state, B of both."""
    op, directions, hidden = _STANDARD, 2 if bidirectional else 1, hx.shape[2]
    more = dict(attributes)
    if "activations" in more:
        more["activations"] = [more["activations"]] * directions
    each = 4 if has_biases else 2
    steps = op.Transpose(input, perm=[1, 0, 2]) if batch_first else input
    states = []
    for layer in range(num_layers):
        first = layer * directions
        own = [params[(first + direction) * each : (first + direction + 1) * each] for direction in range(directions)]
        weights = [_joined([_in_order(kind, one[place], hidden) for one in own]) for place in (0, 1)]
        if has_biases:
            pairs = [[_in_order(kind, one[place], hidden) for place in (2, 3)] for one in own]
            weights.append(_joined([op.Concat(*pair, axis=1) for pair in pairs]))
        state = hx if num_layers == 1 else op.Slice(hx, _ints(first), _ints(first + directions), _ints(0))
        found, last = getattr(op, kind)(
            steps,
            *weights,
            initial_h=state,
            direction="bidirectional" if bidirectional else "forward",
            hidden_size=hidden,
            **more,
        )
        turned = op.Transpose(found, perm=[0, 2, 1, 3])
        steps = op.Reshape(turned, _ints(0, 0, directions * hidden))  # no -1: an empty batch leaves that unsaid
        states.append(last)
    return op.Transpose(steps, perm=[1, 0, 2]) if batch_first else steps, _joined(states)


def _in_order(kind: str, weight: Any, hidden: int) -> Any:
    """A weight (gates * hidden, ...) as (1, gates * hidden, ...), its gates in ONNX's order."""
    order = _GATES[kind]
    blocks = [_STANDARD.Slice(weight, _ints(gate * hidden), _ints((gate + 1) * hidden), _ints(0)) for gate in order]
    joined = _STANDARD.Concat(*blocks, axis=0) if len(blocks) > 1 else weight
    return _STANDARD.Unsqueeze(joined, _ints(0))


def _joined(parts: Sequence[Any]) -> Any:
    return _STANDARD.Concat(*parts, axis=0) if len(parts) > 1 else parts[0]


def _ints(*values: int) -> Any:
    return _STANDARD.Constant(value_ints=list(values))
